"""A recording as one HTML file that opens offline.

========  ==================================================================
page      writes the file
sections  its sections, each with the SQL
pictures  the slowest frames
plots     the plots and their SQL; as Vega-Lite for a PNG
vega      what those share
png       writes one of them as a PNG
========  ==================================================================
"""

from dgrec.replay.report.page import check_file, write_report
from dgrec.replay.report.png import write_plot, write_png
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
