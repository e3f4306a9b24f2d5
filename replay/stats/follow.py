"""Numbers of a recording that is still going on, read from its journal as it grows."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dgrec.errors import DgrecError, NotASessionError
from dgrec.format import (
    JournalTail,
    Metadata,
    RowTotals,
    is_being_written,
    loses_at_start,
    since_start,
)
from dgrec.paths import (
    JOURNAL_SUFFIX,
    numbered_files,
    sealed_path,
    session_stem,
)
from dgrec.rates import RecentRate, rate_text
from dgrec.replay.stats.charts import bars
from dgrec.session import Part, Session, open_session
from dgrec.units import counted

#: Seconds that the recent numbers cover, and that the chart shows: a column each.
RECENT_S = 60
#: Seconds in which the recorder begins its next part.
_PATIENCE_S = 10.0
#: Seconds in which it seals the journal: that of a day took 27.
SEALING_S = 120.0

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Snapshot:
    """The numbers of a recording so far. The recent numbers are of the last `RECENT_S` seconds,
    before ``now``: while nothing comes, the recent rate goes down."""

    frames: int
    detections: int
    skipped: int
    #: Once the model had started; ``dropped_at_start``: while it did.
    dropped: int
    dropped_at_start: int
    #: From the first capture to the last result; 0 without frames.
    seconds: float
    #: Since the last result.
    silent_s: float
    recent_fps: float
    #: p50, p95 and p99; None if no recent frame has a latency.
    recent_latency_ms: tuple[float, float, float] | None
    #: p50; None if the runtime reports none.
    recent_inference_ms: float | None
    #: For each of the last seconds, the oldest first: results, and the 95th percentile of latency.
    results_by_second: tuple[int, ...]
    latency_by_second: tuple[float | None, ...]


class Follower:
    """Keeps the numbers of one recording up to date; `poll` reads only what is new.

    Memory holds the rows of the last minute, and totals, however long the recording.

    Args:
        path: A journal. If it is a part, the parts before it are counted from the start, and the
            parts after it are followed.

    Raises:
        SessionError: It, or an earlier part, cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._tail = JournalTail(path)
        except OSError as error:
            raise NotASessionError(f"{path}: cannot be read: {error.strerror}") from None
        self._begin_counting()
        while "part" in self._tail.metadata and not self._count_parts_before():
            self._begin_counting()

    @property
    def path(self) -> Path:
        """The journal that is read now."""
        return self._tail.path

    @property
    def will_be_sealed(self) -> bool:
        """Return whether the recording has ended in a way that lets its journal be sealed."""
        closing = self._tail.closing or {}
        return closing.get("end_reason", "disk_full") not in ("disk_full", "failed")

    def poll(self) -> bool:
        """Read what is new; return whether the recording goes on."""
        # Asked first: whatever was written before the recorder closed the journal is read below.
        is_written = is_being_written(self.path)
        for batch in self._tail.read():
            self._take(batch)
        if self._tail.closing is not None:
            return self._tail.closing.get("end_reason") == "split" and self._next_part()
        return is_written

    def close(self) -> None:
        self._tail.close()

    def snapshot(self, now_s: float | None = None) -> Snapshot:
        """Return the numbers as of ``now_s``, seconds since 1970."""
        now = max(self._last_s, time.time() if now_s is None else now_s)
        while self._recent and self._recent[0][0][-1] <= now - RECENT_S:
            self._recent.popleft()
        parts = [np.concatenate(part) for part in zip(*self._recent, strict=True)]
        completed, latency, inference = parts or [np.empty(0)] * 3
        recent = completed > now - RECENT_S
        completed, latency, inference = completed[recent], latency[recent], inference[recent]
        age = np.minimum((now - completed).astype(int), RECENT_S - 1)
        by_second = [latency[age == second] for second in reversed(range(RECENT_S))]
        known = _known(inference)
        latency = _known(latency)
        quantiles = np.quantile(latency, [0.5, 0.95, 0.99]).tolist() if len(latency) else None
        here = since_start(self._rows.losses(self._tail.metadata))
        losses = {name: (count or 0) + self._before[name] for name, count in here.items()}
        return Snapshot(
            frames=self._frames,
            detections=self._rows.detections + self._before["detections"],
            skipped=losses["skipped"],
            dropped=losses["dropped"],
            dropped_at_start=losses["dropped_at_start"],
            seconds=self._last_s - self._first_s,
            silent_s=now - self._last_s if self._frames else 0.0,
            recent_fps=self._rate.fps(now),
            recent_latency_ms=None if quantiles is None else tuple(quantiles),
            recent_inference_ms=float(np.median(known)) if len(known) else None,
            results_by_second=tuple(len(values) for values in by_second),
            latency_by_second=tuple(
                float(np.quantile(values, 0.95)) if len(values) else None
                for values in map(_known, by_second)
            ),
        )

    def _begin_counting(self) -> None:
        self._recent: deque[tuple[_Floats, _Floats, _Floats]] = deque()
        self._rows = RowTotals()
        #: Totals of the parts that ended before this one began.
        self._before: Counter[str] = Counter()
        self._rate = RecentRate(RECENT_S)
        self._first_s = self._last_s = 0.0

    def _take(self, batch: pa.RecordBatch) -> None:
        completed = batch.column("completed_at").cast(pa.int64()).to_numpy() / 1e6
        captured = batch.column("captured_at").cast(pa.int64()).to_numpy() / 1e6
        # A program says when its frames were captured, and may add them in another order.
        first_s = float(captured.min())
        self._first_s = min(self._first_s, first_s) if self._frames else first_s
        self._last_s = float(completed[-1])
        self._rows.add(batch)
        for row in zip(captured.tolist(), completed.tolist(), strict=True):
            self._rate.add(*row)
        self._recent.append(
            (
                completed,
                *(
                    batch.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
                    for name in ("latency_ms", "inference_ms")
                ),
            )
        )
        while self._recent[0][0][-1] <= self._last_s - RECENT_S:
            self._recent.popleft()

    @property
    def _frames(self) -> int:
        return self._rows.frames + self._before["frames"]

    @property
    def _name(self) -> Path:
        """The path that names the recording as a whole."""
        return self.path.with_name(self.path.stem.rsplit("-", 1)[0])

    def _count_parts_before(self) -> bool:
        """Start from what the recorder counted in the parts that are there already.

        Return False if one of them was removed meanwhile: then it may be half counted.
        """
        with open_session(self._name) as session:
            number = self._tail.metadata["part"]["number"]
            for part in session.parts:
                if part.number >= number or not part.rows:
                    continue
                try:
                    self._count_part(session, part)
                except (DgrecError, OSError):
                    if part.file.exists():
                        raise
                    return False
        return True

    def _count_part(self, session: Session, part: Part) -> None:
        is_known = not loses_at_start(part.metadata) or self._rows.is_start_over
        # It was cut off, or may have begun while the model started.
        if "totals" not in part.metadata or not is_known:
            for batch in session.batches_of(part):
                self._take(batch)
            return
        if not self._frames:
            first = next(session.batches_of(part, ["captured_at"]))
            self._first_s = _first_capture(first)
        counted = ("detections", "skipped", "dropped", "dropped_at_start")
        self._before.update({name: part.totals[name] or 0 for name in counted})
        self._before["frames"] += part.rows

    def _next_part(self) -> bool:
        """Go on with the next part's journal; return whether there is one.

        On a busy machine parts may have been sealed meanwhile, or removed.
        """
        number = self._tail.metadata["part"]["number"] + 1
        while True:
            found: list[JournalTail | Metadata] = []
            if not wait_for(partial(self._look_for_part, number, found)):
                return False
            following = found[0]
            if isinstance(following, JournalTail):
                self._tail.close()
                self._tail = following
                return True
            if following.get("end_reason") != "split":
                return False
            number = following["part"]["number"] + 1

    def _look_for_part(self, number: int, found: list[JournalTail | Metadata]) -> bool:
        """Find part ``number`` or a later one: open its journal, or read all of it if it is sealed.

        Args:
            found: Gets the journal, or the metadata of the part that was read.
        """
        set_id = self._tail.metadata["part"]["set_id"]
        for at, file in numbered_files(self._name):
            if at < number:
                continue
            try:
                if file.suffix == JOURNAL_SUFFIX:
                    tail = JournalTail(file)
                    if tail.metadata.get("part", {}).get("set_id") == set_id:
                        found.append(tail)
                    else:
                        tail.close()
                else:
                    with open_session(file) as session:
                        if session.metadata.get("part", {}).get("set_id") == set_id:
                            found.append(session.metadata)
                            for batch in session.batches():
                                self._take(batch)
            except (DgrecError, OSError):
                if not (found or os.path.lexists(file)):
                    return False  # it was sealed or removed just now: the folder is listed again
            if found:
                return True
        return False


def _known(values: _Floats) -> _Floats:
    """Return the values that are not null. A program that adds frames may know no latency."""
    return values[~np.isnan(values)]


def _first_capture(batch: pa.RecordBatch) -> float:
    """Return when the first frame of some rows was captured, in seconds since 1970."""
    return int(batch.column("captured_at")[0].cast(pa.int64()).as_py()) / 1e6


def journal_of(path: Path) -> Path | None:
    """Return the journal of the recording ``path`` (its journal, its name, or a set's name).

    None if there is no such journal: nothing is being recorded there.
    """
    if path.exists():
        return path if path.suffix == JOURNAL_SUFFIX else None
    beside = path.with_name(session_stem(path) + JOURNAL_SUFFIX)
    if beside.exists():
        return beside
    parts = [file for _, file in numbered_files(path) if file.suffix == JOURNAL_SUFFIX]
    return parts[-1] if parts else None


def sealed_or_not(path: Path, patience_s: float) -> Path:
    """Return where the recording of ``path`` is once it has ended: sealed, or still a journal."""
    if path.suffix != JOURNAL_SUFFIX:
        beside = path.with_name(session_stem(path) + JOURNAL_SUFFIX)
        wait_for(lambda: not beside.exists(), patience_s)
        return path if path.exists() or not beside.exists() else beside
    sealed = sealed_path(path)
    wait_for(lambda: not path.exists(), patience_s)
    return sealed if sealed.exists() and not path.exists() else path


def wait_for(happened: Callable[[], bool], patience_s: float = _PATIENCE_S) -> bool:
    """Wait until ``happened``; return whether it did in time."""
    end = time.monotonic() + patience_s
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


# --- showing -----------------------------------------------------------------------------------


def status_line(s: Snapshot) -> str:
    """Return the numbers in one line, for where no screen can be drawn."""
    return (
        f"{s.seconds:,.1f} s  {counted(s.frames, 'frame')}  {counted(s.detections, 'detection')}  "
        f"{rate_text(s.recent_fps)} fps  latency p50 {_ms(s, 0)} p95 {_ms(s, 1)} ms  "
        f"dropped {_dropped(s)}"
    )


#: How many lines of the display are text; the rest are charts.
TEXT_LINES = 4


def screen(name: str, s: Snapshot, *, blocks: bool) -> Iterator[str]:
    """Yield the lines of a display of `RECENT_S` and some columns."""
    silent = f"  (nothing for {s.silent_s:.0f} s)" if s.silent_s > 2 and s.frames else ""
    yield f"{name}: recording{silent}"
    yield (
        f"so far       {counted(s.frames, 'frame')} in {s.seconds:,.1f} s, "
        f"{counted(s.detections, 'detection')}, "
        f"skipped {s.skipped:,}, dropped {_dropped(s)}"
    )
    inference = "-" if s.recent_inference_ms is None else f"{s.recent_inference_ms:.1f}"
    yield f"last {RECENT_S} s    {rate_text(s.recent_fps)} fps, inference p50 {inference} ms"
    yield f"             latency p50 {_ms(s, 0)}, p95 {_ms(s, 1)}, p99 {_ms(s, 2)} ms"
    for title, values in (("p95 ms", s.latency_by_second), ("results", s.results_by_second)):
        largest = max((value for value in values if value is not None), default=0)
        labels = (f"{largest:,.0f}", title, "0")
        for label, text in zip(labels, bars(values, 3, largest, blocks=blocks), strict=True):
            yield f"{label:>10}  {text}".rstrip()


def _dropped(s: Snapshot) -> str:
    more = f" ({s.dropped_at_start:,} more while the model started)" if s.dropped_at_start else ""
    return f"{s.dropped:,}{more}"


def _ms(s: Snapshot, index: int) -> str:
    return "-" if s.recent_latency_ms is None else f"{s.recent_latency_ms[index]:.1f}"
