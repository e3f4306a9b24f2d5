"""Shows what `dgrec.compare` and `dgrec.accuracy` found, as text, Markdown or JSON."""

from dgrec.replay.compare.accuracy import write_accuracy
from dgrec.replay.compare.tables import (
    KIND_NAMES,
    NOT_COMPARED,
    comparison_notes,
    comparison_sections,
    conclude,
    write_comparison,
)

__all__ = [
    "KIND_NAMES",
    "NOT_COMPARED",
    "comparison_notes",
    "comparison_sections",
    "conclude",
    "write_accuracy",
    "write_comparison",
]
