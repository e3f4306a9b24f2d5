"""Importing detections of other programs as sessions; docs/imports.md says how.

=========  =====================================================================
importing  `import_`: from a file to a session
format     `ImportFormat`, the base class; the registry of formats
formats/   the formats, a file for each
frames     the frames that a format yields, and its input
rows       a session's rows and metadata from these frames
gathering  puts detections in any order into frames, on disk
labels     names of category ids, given beside a file
values     checks of numbers, boxes, labels and masks
text       large text files, piece by piece
=========  =====================================================================
"""

from dgrec.imports import values
from dgrec.imports.format import FORMATS, Head, ImportFormat
from dgrec.imports.frames import Category, Facts, Frames, Images, ImportedFrame, Input
from dgrec.imports.gathering import MOST_DETECTIONS, Gathering, too_many
from dgrec.imports.importing import ImportReport, import_, read_frames
from dgrec.imports.text import (
    LONGEST_LINE,
    InvalidError,
    JsonReader,
    head_of,
    lines_of,
    open_binary,
)

__all__ = [
    "Category",
    "FORMATS",
    "Facts",
    "ImportFormat",
    "Frames",
    "Gathering",
    "Head",
    "Images",
    "ImportReport",
    "ImportedFrame",
    "Input",
    "InvalidError",
    "JsonReader",
    "LONGEST_LINE",
    "MOST_DETECTIONS",
    "head_of",
    "import_",
    "lines_of",
    "open_binary",
    "read_frames",
    "too_many",
    "values",
]
