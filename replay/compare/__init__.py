"""Shows what `dgrec.compare` and `dgrec.accuracy` found, as text, Markdown or JSON."""

from dgrec.replay.compare.accuracy import write_accuracy
from dgrec.replay.compare.tables import write_comparison

__all__ = [
    "write_accuracy",
    "write_comparison",
]
