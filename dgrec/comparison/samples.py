"""The durations and steps of one session's frames, without its warm-up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np

from dgrec.comparison.blocks import Floats, Mask, mean_variance
from dgrec.comparison.changes import Series
from dgrec.errors import NotASessionError
from dgrec.format import LARGEST_MEASUREMENT, MachineLoad, cuts_of
from dgrec.session import Session

Integers = np.ndarray[Any, np.dtype[np.int64]]
Positions = np.ndarray[Any, np.dtype[np.integer[Any]]]

#: Columns that are compared, in the order in which a frame passes them. Not ``recorder_ms``: it is
#: the cost of recording, not a stage of the pipeline.
STAGES: Final = ("read_ms", "preprocess_ms", "inference_ms", "postprocess_ms", "latency_ms")
_DROP_PLACES: Final = ("camera", "queue", "writer")

#: Stands for the number of a frame in its source where the file does not say it.
UNKNOWN: Final = -1

#: A gap between two results is a stall if it is longer than this many times the median gap, and
#: longer than ``STALL_MS``.
_STALL_TIMES: Final = 3.0
STALL_MS: Final = 100.0
_ROWS_AT_ONCE: Final = 65_536


@dataclass
class Sample:
    """The frames of one session, without those of its warm-up.

    ``times`` and ``stages`` give arrays by their names, with NaN where there is no such duration.
    They are made on demand: for a day of frames, they take 20 MB each.
    """

    path: str
    session_id: str
    #: All frames of the session.
    frames: int
    #: Frames left out at its beginning.
    warm_up: int
    #: Whether the end of the warm-up was found; if not, nothing is left out.
    has_settled: bool | None
    source_frame: Integers
    #: ``gap_ms``: from the result before. Unknown for the first one, where frames between are
    #: missing (cut away by `dgrec clip`, or lost to damage), and where a stamp is missing or steps
    #: back. ``step_ms`` and ``captured_step_ms``: from the last frame before that has both stamps,
    #: by results and by captures, each in their own order: their sums are the two times that a rate
    #: is taken from (docs/sql.md).
    times: Mapping[str, Floats]
    stages: Mapping[str, Floats]
    #: Source frames lost once the model had started, by place and at any place (``lost``), and
    #: those left out on purpose (``skipped``); None: the file does not have it.
    dropped: Mapping[str, int | None] = field(default_factory=dict)
    lost: int | None = 0
    skipped: int | None = 0
    #: Source frames lost while the model started.
    dropped_at_start: int | None = 0
    #: How the recording ended; None if it never did (killed, or still running).
    end_reason: str | None = None
    #: A line for each part of the file that cannot be read.
    damage: tuple[str, ...] = ()
    #: How busy the machine was.
    machine: MachineLoad | None = None

    def __len__(self) -> int:
        return len(self.source_frame)

    def only(self, kept: Mask | Positions | slice) -> Sample:
        """Return the same with only some of the frames."""
        return replace(
            self,
            source_frame=self.source_frame[kept],
            times=_Chosen(self.times, kept),
            stages=_Chosen(self.stages, kept),
        )

    def without_numbers(self) -> Sample:
        """Return the same without the numbers of frames: only durations are left."""
        return replace(self, source_frame=np.zeros(0, np.int64))

    def without_frames(self) -> Sample:
        return replace(self.without_numbers(), times={}, stages={})

    def numbered(self) -> Sample:
        """Return the same with only the frames whose number in the source is known."""
        is_known = self.source_frame >= 0
        return self if is_known.all() else self.only(is_known)

    def between(self, first: int, last: int) -> Sample:
        """Return the same with only the frames from one ``source_frame`` to another."""
        kept: Mask | slice
        if self.is_ordered:
            start, stop = np.searchsorted(self.source_frame, [first, last + 1]).tolist()
            kept = slice(start, stop)
        else:
            kept = (self.source_frame >= first) & (self.source_frame <= last)
        # The times before the first one do not count.
        return replace(self.only(kept), times=_Chosen(self.times, kept, is_start=True))

    @cached_property
    def is_ordered(self) -> bool:
        """Whether each number in the source is larger than the one before."""
        return bool((self.source_frame[1:] > self.source_frame[:-1]).all())

    @property
    def gap_ms(self) -> Floats:
        return self.times["gap_ms"]

    @cached_property
    def seconds(self) -> float:
        """The duration, without the warm-up and without missing frames."""
        return float(np.nansum(self.gap_ms)) / 1000

    @cached_property
    def second(self) -> int:
        """Frames in a second, at least 1."""
        count = int(np.count_nonzero(~np.isnan(self.gap_ms)))
        return max(round(count / self.seconds), 1) if self.seconds > 0 else 1

    @property
    def gaps(self) -> Series:
        """Milliseconds from each result to the next."""
        return Series.of_known(self.gap_ms, self.second)

    @property
    def steps(self) -> Series:
        """Milliseconds from each frame to the next, by results or by captures.

        Those with the larger sum: one over their mean is the rate (`dgrec.rates.frame_rate`).
        """
        sums = {name: np.nansum(self.times[name]) for name in ("step_ms", "captured_step_ms")}
        return Series.of_known(self.times[max(sums, key=lambda name: sums[name])], self.second)

    def stage(self, name: str) -> Series:
        return Series.of_known(self.stages[name], self.second)


class _Chosen(Mapping[str, Floats]):
    """The values of some of the frames.

    Args:
        is_start: The time before the first of them is unknown.
    """

    def __init__(
        self, of: Mapping[str, Floats], kept: Mask | Positions | slice, *, is_start: bool = False
    ) -> None:
        self._of, self._kept, self._is_start = of, kept, is_start

    def __getitem__(self, name: str) -> Floats:
        values = self._of[name][self._kept]
        if self._is_start:
            values = values.copy()
            values[:1] = np.nan
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)


class _Times(Mapping[str, Floats]):
    """Times of whole microseconds as milliseconds, kept in half the memory if none is long."""

    def __init__(self, times: dict[str, Floats]) -> None:
        self._us = {name: _compact(times.pop(name)) for name in list(times)}

    def __getitem__(self, name: str) -> Floats:
        found = self._us[name] / 1000
        found[self._us[name] < 0] = np.nan
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._us)

    def __len__(self) -> int:
        return len(self._us)


def _compact(times_us: Floats) -> np.ndarray[Any, Any]:
    """Return times as whole numbers if none is long; -1 for NaN."""
    times_us[np.isnan(times_us)] = -1
    return times_us.astype(np.int32) if times_us.max(initial=0) < 2**31 else times_us


class _Stages(Mapping[str, Floats]):
    """Durations of all frames of a session, which are read from its file each time."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getitem__(self, name: str) -> Floats:
        values = _columns(self._session, **{name: name})[name]
        # A file may claim wrongly that all of its numbers are finite.
        values[(values > LARGEST_MEASUREMENT) | (values < -LARGEST_MEASUREMENT)] = np.nan
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(STAGES)

    def __len__(self) -> int:
        return len(STAGES)


def stall_limit(usual_ms: float) -> float:
    """Return from how many milliseconds a gap is a stall, where ``usual_ms`` is the median gap."""
    return max(_STALL_TIMES * usual_ms, STALL_MS)


def count_stalls(gaps: Series, limit_ms: float) -> tuple[int, float]:
    """Return how many gaps are longer than the limit, and as how many independent events.

    Stalls come in clusters.
    """
    is_long = gaps.values > limit_ms
    count = int(is_long.sum())
    if count in (0, len(gaps)) or gaps.block is None:
        return count, float(count)
    share = count / len(gaps)
    variance = mean_variance(is_long, gaps.block)
    clustering = variance * len(gaps) / (share * (1 - share))
    return count, count / max(clustering, 1.0)


def read_sample(session: Session) -> Sample:
    """Read what a comparison needs of a session: 32 bytes of memory a frame.

    The session has to stay open: durations are read from it later.

    Raises:
        SessionError: Part of the file cannot be read.
    """
    from dgrec.sql import views

    for name in ("source_frame", "completed_at", "latency_ms", "captured_at", "frame"):
        if name not in session.schema.names:
            raise NotASessionError(f"{session.path}: cannot be compared: it has no column {name!r}")
    metadata = session.metadata
    losses = _losses(session)
    has_settled, warm_up = _warm_up(session)
    views.return_memory(len(session))
    cuts = cuts_of(metadata)
    stamps = _columns(
        session,
        frame="frame",
        captured_at="epoch_us(captured_at)",
        completed_at="epoch_us(completed_at)",
    )
    times = {"gap_ms": _gaps(stamps["frame"], stamps["completed_at"], cuts)}
    times["gap_ms"][warm_up : warm_up + 1] = np.nan
    times["step_ms"], times["captured_step_ms"] = _steps(stamps, cuts, warm_up)
    source = _columns(session, source_frame="source_frame")["source_frame"]
    whole = Sample(
        path=str(session.path),
        session_id=session.id,
        frames=len(source),
        warm_up=warm_up,
        has_settled=has_settled,
        source_frame=np.nan_to_num(source, copy=False, nan=UNKNOWN).astype(np.int64),
        times=_Times(times),
        stages=_Stages(session),
        dropped={place: losses[place] for place in _DROP_PLACES},
        lost=losses["lost"],
        skipped=losses["skipped"],
        dropped_at_start=losses["at_start"],
        end_reason=metadata.get("end_reason"),
        machine=MachineLoad.of(metadata),
        damage=tuple(session.damage),
    )
    views.return_memory(len(session))
    return whole.only(slice(warm_up, None))


def _columns(session: Session, **columns: str) -> dict[str, Floats]:
    """Return columns of the view ``frames``, each given by name and SQL; NaN where unknown."""
    import duckdb
    import pyarrow as pa

    from dgrec.sql import views

    found = {name: np.full(len(session), np.nan) for name in columns}
    values = ", ".join(f"({sql})::DOUBLE AS {name}" for name, sql in columns.items())
    at = 0
    try:
        for batch in session.sql(f"SELECT {values} FROM frames").to_arrow_reader(_ROWS_AT_ONCE):
            for name, column in zip(columns, batch.columns, strict=True):
                found[name][at : at + batch.num_rows] = column.to_numpy(zero_copy_only=False)
            at += batch.num_rows
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        session.check_rows()  # names the file, which DuckDB may not
        raise views.query_error(error) from None
    return found


def _gaps(frame: Floats, completed_us: Floats, cuts: Sequence[int]) -> Floats:
    """Return the microseconds since the row before, where that is the frame before."""
    gaps = np.full(len(frame), np.nan)
    steps = np.diff(completed_us)
    follows = (np.diff(frame) == 1) & ~np.isin(frame[1:], cuts) & (steps >= 0)
    gaps[1:] = np.where(follows, steps, np.nan)
    return gaps


def _steps(columns: dict[str, Floats], cuts: Sequence[int], warm_up: int) -> tuple[Floats, Floats]:
    """Return the microseconds from one row with both stamps to the next, by results and captures.

    Each is sorted first, should it run backwards: in each stretch of consecutive frames, the steps
    add up to the time from the first to the last. The warm-up does not count.

    Args:
        columns: They are removed: for a day of frames, each takes 20 MB.
    """
    frame = columns.pop("frame")
    begins = np.concatenate([[True], (np.diff(frame) != 1) | np.isin(frame[1:], cuts)])
    count = len(frame)
    del frame
    is_known = ~np.isnan(columns["completed_at"] + columns["captured_at"])
    is_known[:warm_up] = False
    known = np.flatnonzero(is_known)
    stretch = np.cumsum(begins[:count], dtype=np.int32)[known]
    follows = np.diff(stretch) == 0
    found = []
    for name in ("completed_at", "captured_at"):
        ordered = columns.pop(name)[known]
        if (ordered[1:] < ordered[:-1]).any():
            ordered = ordered[np.lexsort((ordered, stretch))]
        between = np.diff(ordered)
        del ordered
        between[~follows] = np.nan
        steps = np.full(count, np.nan)
        steps[known[1:]] = between
        found.append(steps)
    return found[0], found[1]


def _losses(session: Session) -> dict[str, int | None]:
    """Return how many source frames are missing; ``at_start``: lost while the model started.

    None where the file does not have it.
    """
    names = ("lost", "at_start", "skipped", *_DROP_PLACES)
    found = session.sql_rows(
        "SELECT dropped, at_start, skipped, camera, queue, writer FROM _session_losses"
    )
    return dict(zip(names, found[0] if found else [0] * len(names), strict=True))


def _warm_up(session: Session) -> tuple[bool | None, int]:
    """Return whether a session settled, and how many rows come before that (docs/sql.md).

    None where it is too short.
    """
    # The rule is in SQL, where everybody can read it.
    rows = session.sql_rows("SELECT has_settled, warm_up_frames FROM warm_up")
    return (rows[0][0], int(rows[0][1] or 0)) if rows else (None, 0)
