"""What happened to a session's source while it was recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dgrec.session import Session

__all__ = ["damage_events", "source_events"]


def source_events(session: Session) -> list[dict[str, Any]]:
    """Return what happened to the source; of a journal, as far as it has been read."""
    events = list(session.metadata.get("events", []))
    if not session.parts and not session.sealed:
        events += session.journal.events
    return events


def damage_events(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return those that say how many frames of the source could not be decoded."""
    return [event for event in events if event.get("kind") == "damage" and event.get("lost")]
