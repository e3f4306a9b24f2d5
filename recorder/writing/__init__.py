"""The path of rows to the disk: the writer's queue, parts, sealing, retention."""

from dgrec.recorder.writing.continuation import (
    NOTHING_EARLIER,
    Continuation,
    Earlier,
    find_earlier,
    recover_parts,
)
from dgrec.recorder.writing.moments import Moments
from dgrec.recorder.writing.parts import PartedJournal
from dgrec.recorder.writing.sealer import unsealed
from dgrec.recorder.writing.writer import RowWriter

__all__ = [
    "NOTHING_EARLIER",
    "Continuation",
    "Earlier",
    "Moments",
    "PartedJournal",
    "RowWriter",
    "find_earlier",
    "recover_parts",
    "unsealed",
]
