"""What is on disk: the columns of a session, its metadata, journals and sealed files."""

from dgrec.format import json_values, metadata, result_values
from dgrec.format.arrays import is_utf8
from dgrec.format.casting import is_cast, with_columns
from dgrec.format.checksums import Checksums, verify_checksums
from dgrec.format.clips import Span, have_common_frames, original_of, recorded_spans
from dgrec.format.decode import RestoredFrame, restore
from dgrec.format.digest import (
    NO_FINGERPRINT,
    Fingerprint,
    digest,
    distance,
    fingerprint,
    signature,
    signatures,
    vectors,
)
from dgrec.format.encode import Row, build_batch
from dgrec.format.journal import Journal, JournalTail, is_being_written
from dgrec.format.journal_writer import Durability, JournalWriter
from dgrec.format.labels import (
    FRAME_LABELS,
    FRAME_LABELS_COLUMNS,
    frame_labels,
    labels_of,
    rows_with_labels,
)
from dgrec.format.masks import MaskMode
from dgrec.format.metadata import (
    Event,
    Metadata,
    VideoEntry,
    cuts_of,
    dumps,
    is_live,
    pixel_aspect,
    result_type,
    source_size,
    utc_ns,
    utc_text,
    uuid7,
    video_entries,
)
from dgrec.format.parquet import SealedFile, leaves_of, seal, write_sealed
from dgrec.format.recorded_objects import InnerResult, is_result, is_stream_meta
from dgrec.format.result_values import OVERLAY_SETTINGS
from dgrec.format.schema import DETECTION, LABEL_LEAF, LATER_COLUMNS, SCHEMA, SIGNAL
from dgrec.format.signals import (
    LONGEST_NAME,
    MOST_WITHOUT_ROW,
    Signal,
    as_note,
    from_metadata,
    signals_of,
    with_signals,
)
from dgrec.format.totals import (
    AT_START,
    FLOATS,
    LARGEST_MEASUREMENT,
    LOSSES,
    TOTALLED,
    RowTotals,
    StartLosses,
    add_rows,
    loses_at_start,
    since_start,
)
from dgrec.format.untrusted import DecodeError, open_file

__all__ = [
    "AT_START",
    "Checksums",
    "DETECTION",
    "DecodeError",
    "Durability",
    "Event",
    "FLOATS",
    "Fingerprint",
    "FRAME_LABELS",
    "FRAME_LABELS_COLUMNS",
    "InnerResult",
    "Journal",
    "JournalTail",
    "JournalWriter",
    "LABEL_LEAF",
    "LATER_COLUMNS",
    "LONGEST_NAME",
    "MOST_WITHOUT_ROW",
    "LARGEST_MEASUREMENT",
    "LOSSES",
    "MaskMode",
    "Metadata",
    "NO_FINGERPRINT",
    "OVERLAY_SETTINGS",
    "RestoredFrame",
    "Row",
    "RowTotals",
    "SCHEMA",
    "SIGNAL",
    "SealedFile",
    "Signal",
    "Span",
    "StartLosses",
    "TOTALLED",
    "VideoEntry",
    "add_rows",
    "as_note",
    "build_batch",
    "cuts_of",
    "digest",
    "distance",
    "dumps",
    "fingerprint",
    "frame_labels",
    "from_metadata",
    "have_common_frames",
    "is_being_written",
    "is_cast",
    "is_live",
    "is_result",
    "is_stream_meta",
    "is_utf8",
    "json_values",
    "labels_of",
    "leaves_of",
    "loses_at_start",
    "metadata",
    "open_file",
    "original_of",
    "pixel_aspect",
    "recorded_spans",
    "restore",
    "result_type",
    "result_values",
    "rows_with_labels",
    "seal",
    "signals_of",
    "signature",
    "signatures",
    "since_start",
    "source_size",
    "utc_ns",
    "utc_text",
    "uuid7",
    "vectors",
    "verify_checksums",
    "video_entries",
    "with_columns",
    "with_signals",
    "write_sealed",
]
