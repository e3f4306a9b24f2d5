"""The alerts that a recording gave, from its events, and the names of their clips."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dgrec.errors import DgrecError
from dgrec.format import stamp_us
from dgrec.paths import SESSION_SUFFIX
from dgrec.session import Session, run_ended_us

#: Names of clips keep the letters and digits of an alert's name, and at most this many bytes.
_UNSAFE: Final = re.compile(r"[^\w-]+")
_LONGEST: Final = 60
#: Bytes that the name of a clip, or of a file beside it, has at most after the recording's name.
LONGEST_CLIP_NAME: Final = 140


@dataclass(frozen=True)
class RecordedAlert:
    """An alert as it was recorded.

    Args:
        name: Of its rule.
        rule: As it was written; "" if unknown.
        fired_us: When it fired, in microseconds since 1970.
        ended_us: When it was over; None: it still held at the end.
    """

    name: str
    rule: str
    fired_us: int
    ended_us: int | None = None


def recorded_alerts(events: Iterable[Mapping[str, Any]]) -> list[RecordedAlert]:
    """Return the alerts among a session's events, in the order in which they fired.

    An alert that held at the end of a run that others followed, ended with that run.
    """
    found: list[RecordedAlert] = []
    held: dict[str, int] = {}

    def end(name: str, at_us: int) -> None:
        if (place := held.pop(name, None)) is not None:
            found[place] = replace(found[place], ended_us=max(at_us, found[place].fired_us))

    for event in events:
        kind, name = event.get("kind"), str(event.get("text"))
        at_us = stamp_us(event.get("at"))
        if (ended_us := run_ended_us(event)) is not None:
            for each in [*held]:
                end(each, ended_us)
        elif kind == "alert" and at_us is not None:
            end(name, at_us)
            held[name] = len(found)
            found.append(RecordedAlert(name, str(event.get("rule") or ""), at_us))
        elif kind == "alert_end" and at_us is not None:
            end(name, at_us)
    return found


def clip_path(recording: Path, alert: RecordedAlert) -> Path:
    """Return the clip of an alert, beside the recording (or its journal).

    Its name tells the alert from all others, and is safe on any file system.

    Example:

        >>> clip_path(Path("cam0.parquet"), RecordedAlert("crowd", "", 1_767_323_045_678_901)).name
        'cam0.alert-crowd-20260102T030405.678901Z.parquet'
    """
    name = _UNSAFE.sub("_", alert.name)
    while len(name.encode(errors="replace")) > _LONGEST:
        name = name[:-1]
    if name != alert.name:  # another name may look the same now
        name += f"-{hashlib.sha256(alert.name.encode(errors='replace')).hexdigest()[:8]}"
    at = dt.datetime.fromtimestamp(alert.fired_us // 1_000_000, dt.UTC)
    time = f"{at:%Y%m%dT%H%M%S}.{alert.fired_us % 1_000_000:06}Z"
    return recording.with_name(f"{recording.stem}.alert-{name}-{time}{SESSION_SUFFIX}")


def without_clip(recording: Path) -> int:
    """Return how many alerts of a recording have no clip; 0 if it cannot be read."""
    with contextlib.suppress(DgrecError, OSError), Session(recording) as session:
        alerts = recorded_alerts(session.metadata.get("events", []))
        return sum(not clip_path(recording, alert).exists() for alert in alerts)
    return 0
