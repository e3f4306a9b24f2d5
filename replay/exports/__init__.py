"""Exports: a session in the formats of other tools.

==============  ================================================================
exporter        writes the files of an export, and reports what was written
exported        which frames and detections of a session are exported
selection       the options that choose them
classes         numbers for labels
odd_values      values that only JSON holds, back in their columns
tracks          detections ordered by track
pictures        writes pictures of frames
json_text       JSON of many rows at once
xml_text        text from anybody in XML
losses          what a format cannot hold, counted
geometry        masks as run lengths and outlines; corners of turned boxes
format          `Format`, the base class; the registry of formats
formats/        the formats, a file for each
==============  ================================================================
"""

from dgrec.replay.exports.exporter import (
    ExportReport,
    export,
    export_session,
    export_to_stdout,
    member_outputs,
)
from dgrec.replay.exports.format import FORMATS, Format, format_of, load_formats
from dgrec.replay.exports.selection import ExportOptions, parse_split

__all__ = [
    "ExportOptions",
    "ExportReport",
    "FORMATS",
    "Format",
    "export",
    "export_session",
    "export_to_stdout",
    "format_of",
    "load_formats",
    "member_outputs",
    "parse_split",
]
