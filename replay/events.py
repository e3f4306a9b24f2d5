"""The events of a session: what happened to its source while it was recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dgrec.session import Session


def source_events(session: Session) -> list[dict[str, Any]]:
    """Return the events of a session; for a journal, those that have been read so far."""
    return list(session.metadata.get("events", []))


def damage_events(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the events with a number of frames that could not be decoded."""
    return [event for event in events if event.get("kind") == "damage" and event.get("lost")]
