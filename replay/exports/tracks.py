"""The detections of an export ordered by track, in bounded memory."""

from __future__ import annotations

import json
import math
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dgrec.replay.exports.classes import Classes
from dgrec.replay.exports.exported import Detection, Exported
from dgrec.replay.exports.geometry import corners_of

__all__ = ["Place", "Track", "Tracks"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a track is in a frame."""

    #: Number of the frame in the video or among the pictures, from 0.
    at: int
    box: tuple[float, float, float, float]
    angle: float
    score: float | None

    def corners(self) -> list[tuple[float, float]]:
        """Return the corners of the turned box, upper left first."""
        return corners_of(self.box, self.angle)


@dataclass(frozen=True, slots=True)
class Track:
    """An object on its way. A detection without a track is one of its own."""

    track_id: int | None
    label: str
    places: Iterator[Place]


class Tracks:
    """Detections by track: read once in the order of frames, then again in that of tracks.

    They are in a temporary file meanwhile. A track has one label, that of its first detection.

    Args:
        exported: What is exported.
        spill: The folder of the temporary file; None: the system's.
    """

    def __init__(self, exported: Exported, spill: Path | None = None) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="dgrec-tracks-", dir=spill)  # noqa: SIM115
        self._database = sqlite3.connect(self._file.name, isolation_level=None)
        #: The number after the last frame, and the size of its picture.
        self.frames = 0
        self.size = (0, 0)
        #: The time of the last frame, in microseconds since the first one's.
        self.last_us = 0
        #: The labels, in the order in which they come.
        self.labels: dict[str, None] = {}
        try:
            self._read(exported)
        except BaseException:
            self.close()
            raise

    def _read(self, exported: Exported) -> None:
        run = self._database.execute
        run("PRAGMA journal_mode = OFF")
        run("PRAGMA synchronous = OFF")
        run("BEGIN")
        run("CREATE TABLE place (track INTEGER, label TEXT, at INTEGER, value TEXT)")
        rows: list[tuple[int | None, str, int, str]] = []
        first_us: int | None = None
        for frame, at in exported.shown_frames():
            self.frames, self.size = at + 1, frame.size
            first_us = frame.time_us if first_us is None else first_us
            self.last_us = frame.time_us - first_us
            for each in frame.detections:
                label = Classes.name(each.label, each.category_id)
                self.labels[label] = None
                rows.append((each.track_id, label, at, _packed(each)))
            if len(rows) > 1000:
                self._database.executemany("INSERT INTO place VALUES (?, ?, ?, ?)", rows)
                rows.clear()
        self._database.executemany("INSERT INTO place VALUES (?, ?, ?, ?)", rows)
        run("CREATE INDEX by_track ON place (track)")
        changed = run(
            "SELECT count(*) FROM (SELECT 1 FROM place WHERE track IS NOT NULL GROUP BY track "
            "HAVING count(DISTINCT label) > 1)"
        ).fetchone()[0]
        exported.losses.add("gave a track its first label where labels change", changed, "track")
        twice = run(
            "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) n FROM place "
            "WHERE track IS NOT NULL GROUP BY track, at HAVING n > 1)"
        ).fetchone()[0]
        exported.losses.add("left out further boxes of a track in one frame", twice)

    def __iter__(self) -> Iterator[Track]:
        run = self._database.execute
        for (track,) in run("SELECT DISTINCT track FROM place WHERE track IS NOT NULL"):
            label = run(
                "SELECT label FROM place WHERE track = ? ORDER BY rowid LIMIT 1", (track,)
            ).fetchone()[0]
            yield Track(track, label, self._places(track))
        for label, at, value in run(
            "SELECT label, at, value FROM place WHERE track IS NULL ORDER BY rowid"
        ):
            yield Track(None, label, iter([_unpacked(at, value)]))

    def _places(self, track: int) -> Iterator[Place]:
        last = -1
        for at, value in self._database.execute(
            "SELECT at, value FROM place WHERE track = ? ORDER BY rowid", (track,)
        ):
            if at > last:
                yield _unpacked(at, value)
            last = max(last, at)

    def close(self) -> None:
        self._database.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _packed(detection: Detection) -> str:
    numbers = [*detection.box, detection.angle or 0.0, detection.score]
    return json.dumps([n if n is None or math.isfinite(n) else 0.0 for n in numbers])


def _unpacked(at: int, value: str) -> Place:
    x_min, y_min, x_max, y_max, angle, score = json.loads(value)
    return Place(at, (x_min, y_min, x_max, y_max), angle, score)
