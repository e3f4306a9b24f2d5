"""Shows what `dgrec.compare` found: `tables` as text, Markdown or JSON, `cli` as a command."""

from dgrec.replay.compare.tables import write_comparison

__all__ = [
    "write_comparison",
]
