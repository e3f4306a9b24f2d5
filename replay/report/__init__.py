"""A recording as one HTML file that opens offline."""

from dgrec.replay.report.page import check_file, write_plot, write_report

__all__ = [
    "check_file",
    "write_plot",
    "write_report",
]
