"""Checks the labels that options name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dgrec.errors import VideoError
from dgrec.session import Session


def check_labels(option: str, labels: Iterable[str], sessions: Sequence[Session]) -> None:
    """Refuse labels that never occur: a mistyped one would leave everything visible.

    Args:
        option: The option that named them.
        sessions: Each label has to occur in one of them, or be known to its model.

    Raises:
        VideoError: A label was never recorded.
    """
    recorded: set[str] = set()
    known: set[str] = set()
    for session in sessions:
        rows = session.sql_rows("SELECT DISTINCT label FROM detections")
        recorded |= {row[0] for row in rows if row[0] is not None}
        known |= set(map(str, session.metadata.get("model", {}).get("labels", {}).values()))
    for label in sorted(set(labels) - recorded - known):
        names = ", ".join(sorted(recorded)[:8]) or "none"
        raise VideoError(f"{option} {label}: no such label was recorded (there are: {names})")
