"""A recording as one HTML file that opens offline."""

from dgrec.replay.report.page import check_file, write_plot, write_png, write_report
from dgrec.replay.report.vega import Rows, Spec, base_spec

__all__ = [
    "Rows",
    "Spec",
    "base_spec",
    "check_file",
    "write_plot",
    "write_png",
    "write_report",
]
