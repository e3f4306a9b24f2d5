"""Importing what other programs found as sessions; docs/imports.md says how.

===========  ===================================================================
importing    `import_`: from a file to a session
formats      the formats by name, and how a file's is recognized
frames       what a reader of a format yields
coco         COCO annotations and results
mot          MOTChallenge
tables       supervision's sinks, and tables with a detection in each row
payload      JSON lines of DeGirum's payload
ultralytics  Results.to_json() and the web API of Ultralytics
cvat         CVAT for video and for images
fiftyone     FiftyOne's data sets and labels
foxglove     MCAP with ImageAnnotations
gathering    puts detections in any order into frames, on disk
labels       names of category ids, given beside a file
values       checks of numbers, boxes, labels and masks
text         large text files, piece by piece
===========  ===================================================================
"""

from dgrec.imports.formats import FORMATS, Format
from dgrec.imports.frames import Facts
from dgrec.imports.importing import ImportReport, import_, read_frames

__all__ = ["FORMATS", "Facts", "Format", "ImportReport", "import_", "read_frames"]
