"""The detections of an export ordered by track, in bounded memory."""

from __future__ import annotations

import math
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from dgrec.errors import StorageError
from dgrec.replay.exports.classes import Classes
from dgrec.replay.exports.exported import Exported
from dgrec.replay.exports.geometry import corners_of

_PLACE = ("x_min", "y_min", "x_max", "y_max", "angle", "score")
#: Higher ids of tracks may be too large for the programs that read them.
_HIGHEST = 2**31 - 1
_COLUMNS = ", ".join(("at", *_PLACE, "width", "height"))


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a track in a frame."""

    #: Number of the frame in the video or among the pictures, from 0.
    at: int
    box: tuple[float, float, float, float]
    angle: float
    score: float | None
    #: Width and height of the frame in pixels; 0 where they are unknown.
    size: tuple[int, int]

    def corners(self) -> list[tuple[float, float]]:
        """Return the corners of the turned box, upper left first."""
        return corners_of(self.box, self.angle)


@dataclass(frozen=True, slots=True)
class Track:
    """The track of an object. A detection without a track is a track of its own."""

    track_id: int | None
    label: str
    places: Iterator[Place]


class Tracks:
    """Detections by track: read once in the order of frames, then again in that of tracks.

    They are in a temporary file meanwhile. A track has one label, that of its first detection.

    Args:
        spill: The folder of the temporary file; None: the system's.
    """

    def __init__(self, exported: Exported, spill: Path | None = None) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="dgrec-tracks-", dir=spill)  # noqa: SIM115
        self._database = sqlite3.connect(self._file.name, isolation_level=None)
        #: The number after the last frame.
        self.frames = 0
        #: How many of the frames up to that number are exported.
        self.shown = 0
        #: Width and height of these, and how many have them.
        self.sizes = Counter[tuple[int, int]]()
        #: The time of the last frame, in microseconds since the first one's.
        self.last_us = 0
        #: The labels, in the order in which they come.
        self.labels: dict[str, None] = {}
        try:
            self._read(exported)
        except sqlite3.OperationalError as error:
            self.close()
            folder = Path(self._file.name).parent
            raise StorageError(
                f"{folder}: a temporary file cannot be written: {error} "
                "(TMPDIR names another folder)"
            ) from None
        except BaseException:
            self.close()
            raise

    def _read(self, exported: Exported) -> None:
        run = self._database.execute
        run("PRAGMA journal_mode = OFF")
        run("PRAGMA synchronous = OFF")
        run("BEGIN")
        run(
            "CREATE TABLE place (track INTEGER, label TEXT, at INTEGER, x_min REAL, y_min REAL, "
            "x_max REAL, y_max REAL, angle REAL, score REAL, width INTEGER, height INTEGER)"
        )
        first_us: int | None = None
        for block, numbers in exported.shown_blocks():
            shown = np.flatnonzero(numbers >= 0)
            if not len(shown):
                continue
            last = int(shown[-1])
            self.shown += len(shown)
            self.frames = int(numbers[last]) + 1
            sizes = block.sizes()
            self.sizes.update(map(tuple, sizes[shown].tolist()))
            first_us = int(block.times_us[shown[0]]) if first_us is None else first_us
            self.last_us = int(block.times_us[last]) - first_us
            names = map(Classes.name, *(block.values(name) for name in ("label", "category_id")))
            rows = zip(
                block.values("track_id"),
                names,
                numbers[block.row_of].tolist(),
                *(block.values(name) for name in _PLACE),
                *sizes[block.row_of].T.tolist(),
                strict=True,
            )
            kept = [row for row in rows if row[2] >= 0]
            self.labels |= dict.fromkeys(row[1] for row in kept)
            self._database.executemany("INSERT INTO place VALUES (?,?,?,?,?,?,?,?,?,?,?)", kept)
        run("CREATE INDEX by_track ON place (track)")
        changed = run(
            "SELECT count(*) FROM (SELECT track, label, min(rowid) FROM place WHERE track IS NOT "
            "NULL GROUP BY track, at) JOIN (SELECT track, label AS first, min(rowid) FROM place "
            "GROUP BY track) USING (track) WHERE label != first"
        ).fetchone()[0]
        exported.losses.add("gave a detection the first label of its track", changed)
        twice = run(
            "SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) n FROM place "
            "WHERE track IS NOT NULL GROUP BY track, at HAVING n > 1)"
        ).fetchone()[0]
        exported.leave_out("further boxes of a track in one frame", twice)

    @property
    def highest_id(self) -> int | None:
        """The highest track id; None if there is one that is negative or very high."""
        lowest, highest = self._database.execute(
            "SELECT coalesce(min(track), 0), coalesce(max(track), -1) FROM place"
        ).fetchone()
        return int(highest) if lowest >= 0 and highest < _HIGHEST else None

    def __iter__(self) -> Iterator[Track]:
        run = self._database.execute
        for (track,) in run("SELECT DISTINCT track FROM place WHERE track IS NOT NULL"):
            label = run(
                "SELECT label FROM place WHERE track = ? ORDER BY rowid LIMIT 1", (track,)
            ).fetchone()[0]
            yield Track(track, label, self._places(track))
        for label, *place in run(f"SELECT label, {_COLUMNS} FROM place WHERE track IS NULL"):
            yield Track(None, label, iter([_place(*place)]))

    def _places(self, track: int) -> Iterator[Place]:
        last = -1
        for at, *place in self._database.execute(
            f"SELECT {_COLUMNS} FROM place WHERE track = ? ORDER BY rowid", (track,)
        ):
            if at > last:
                yield _place(at, *place)
            last = max(last, at)

    def close(self) -> None:
        self._database.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _place(
    at: int,
    x_min: float,
    y_min: float,
    x_max: float,
    y_max: float,
    angle: float | None,
    score: float | None,
    width: int,
    height: int,
) -> Place:
    turned = angle if angle is not None and math.isfinite(angle) else 0.0
    sure = score if score is not None and math.isfinite(score) else None
    return Place(at, (x_min, y_min, x_max, y_max), turned, sure, (width, height))
