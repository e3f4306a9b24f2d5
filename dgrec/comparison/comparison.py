"""Comparing recordings: BASE, and NEW that came after a change of model, device or version."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dgrec.comparison.agreement import Agreement, compare_detections
from dgrec.comparison.blocks import Floats
from dgrec.comparison.changes import (
    CONFIDENCE,
    MARGIN,
    Change,
    Estimate,
    Series,
    Verdict,
    decide,
    mean_estimate,
    quantile_estimate,
    rate_change,
    series_change,
    session_rate_change,
    welch_change,
)
from dgrec.comparison.provenance import Difference, differences, same_footage
from dgrec.comparison.samples import (
    STAGES,
    STALL_MS,
    Sample,
    count_stalls,
    read_sample,
    stall_limit,
)
from dgrec.errors import SessionError
from dgrec.files import resolved
from dgrec.session import table_card
from dgrec.units import digits

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = [
    "METRICS",
    "Comparison",
    "Recording",
    "Row",
    "SessionValues",
    "Value",
    "compare",
    "compare_samples",
    "compare_values",
]

#: Fewer frames that are the same on both sides may be the same by chance.
_MIN_PAIRS: Final = 10
_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
THROUGHPUT: Final = "throughput_fps"
STALLS: Final = "stalls_per_min"
#: Every row of a comparison, with its unit.
METRICS: Final = {
    THROUGHPUT: "frames/s",
    **{f"{stage.removesuffix('_ms')}_{label}_ms": "ms" for stage in STAGES for label in _QUANTILES},
    STALLS: "1/min",
}


@dataclass(frozen=True)
class Recording:
    """One of the sessions compared. Frames of the warm-up count for ``frames`` and losses only."""

    path: str
    session_id: str
    frames: int
    #: Frames left out at the beginning; 0 where the session did not settle (``has_settled``).
    warm_up: int
    #: None: too short to tell, or not timed.
    has_settled: bool | None
    #: Source frames lost once the model had started, by place. None, here and below: the file does
    #: not tell.
    dropped: dict[str, int | None]
    #: The same, at any place.
    lost: int | None
    skipped: int | None
    #: Frames whose durations are compared: without the warm-up, and those in both where there are
    #: pairs.
    compared: int
    #: How many independent frames would tell as much about the latency; None if too short to say.
    effective: float | None
    #: ``finished``, ``limit``, ...; None if the recording never ended: killed, or still running.
    end_reason: str | None = None
    #: A line for each thing of the file that cannot be read.
    damage: tuple[str, ...] = ()
    #: Source frames lost while the model started.
    dropped_at_start: int | None = 0


@dataclass(frozen=True)
class Value:
    """A metric of one side, with its interval (95%) where one can be given."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Row:
    """One metric. Changes are fractions of BASE: 0.1 is 10% more."""

    metric: str
    #: ``ms``, ``frames/s`` or ``1/min``.
    unit: str
    less_is_better: bool
    base: Value
    new: Value
    change: float | None
    change_low: float | None
    change_high: float | None
    p_value: float | None
    #: Whether the change is told from chance, all rows taken together (Holm).
    is_significant: bool
    verdict: Verdict
    #: Why the verdict is UNCLEAR, and of how many sessions it is where some have no value.
    reason: str | None


@dataclass(frozen=True)
class Comparison:
    """What `compare` found out.

    Example:
        >>> import dgrec
        >>> comparison = dgrec.compare("recordings/monday.parquet", "recordings/tuesday.parquet")
        >>> comparison.has_same_footage, comparison.pairs
        (True, 420)
    """

    base: tuple[Recording, ...]
    new: tuple[Recording, ...]
    differences: tuple[Difference, ...]
    #: Whether both sides are known to have seen the same file.
    has_same_footage: bool
    #: Frames that were compared pair by pair, as both sides have them; 0 if there are none.
    pairs: int
    rows: tuple[Row, ...]
    #: Of the detections of the first session on each side; None unless all saw the same footage.
    agreement: Agreement | None
    #: Frames of BASE and of NEW between the first pair and the last that are in no pair.
    unpaired: tuple[int, int] = (0, 0)

    @property
    def is_same_recording(self) -> bool:
        """Whether one recording is compared with itself."""
        return self.unit == "frame" and self.base[0].session_id == self.new[0].session_id != ""

    @property
    def unit(self) -> str:
        """What was drawn from chance: ``frame`` (one session a side) or ``session``."""
        return "frame" if len(self.base) == len(self.new) == 1 else "session"

    @property
    def frames(self) -> tuple[int, int]:
        """Frames recorded, on either side."""
        return self._sums(lambda recording: recording.frames)

    @property
    def frames_compared(self) -> tuple[int, int]:
        """Frames whose durations are compared, on either side."""
        return self._sums(lambda recording: recording.compared)

    @property
    def dropped(self) -> tuple[int | None, int | None]:
        """Source frames lost once the model had started, on either side.

        None where a file does not tell.
        """
        base, new = ([recording.lost for recording in side] for side in (self.base, self.new))
        return _sum(base), _sum(new)

    def _sums(self, count: Callable[[Recording], int]) -> tuple[int, int]:
        return sum(map(count, self.base)), sum(map(count, self.new))

    def row(self, metric: str) -> Row:
        """Return one row.

        Raises:
            KeyError: There is no such metric.
        """
        for row in self.rows:
            if row.metric == metric:
                return row
        raise KeyError(metric)

    def _repr_html_(self) -> str:
        """Return what a notebook shows (IPython's protocol)."""
        title = " against ".join(", ".join(r.path for r in s) for s in (self.base, self.new))
        head = ("metric", "BASE", "NEW", "change", "verdict", "why")
        return table_card(title, head, map(_card_row, self.rows), self._card_notes())

    def _card_notes(self) -> Iterator[str]:
        if self.unit == "frame":
            yield "A difference between these two recordings; runs of the same thing differ, too."
        for name, side in (("BASE", self.base), ("NEW", self.new)):
            warm_up = sum(r.warm_up for r in side)
            yield f"{name}: {sum(r.frames for r in side):,} frames, {warm_up:,} of them warm-up."
        yield f"What differs: {', '.join(d.key for d in self.differences) or 'nothing'}."
        found = self.agreement
        if found is not None and found.f1 is not None:
            yield f"Agreement (F1) of {found.frames:,} frames: {found.f1:.4f}."

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it (`dgrec compare --format json`)."""
        value = asdict(self)
        value["unit"] = self.unit
        value["confidence"], value["same_within"] = CONFIDENCE, MARGIN
        if self.agreement is not None:
            for name in ("precision", "recall", "f1"):
                value["agreement"][name] = getattr(self.agreement, name)
                for entry, label in zip(
                    value["agreement"]["labels"], self.agreement.labels, strict=True
                ):
                    entry[name] = getattr(label, name)
            for frame in value["agreement"]["changed"]:
                frame["kinds"] = dict(frame["kinds"])
        return value


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _card_row(row: Row) -> tuple[str, ...]:
    sides = []
    for side in (row.base, row.new):
        text = "-" if side.value is None else f"{digits(side.value)} {row.unit}"
        if side.low is not None and side.high is not None:
            text += f" ({digits(side.low)} to {digits(side.high)})"
        sides.append(text)
    change = "-" if row.change is None else f"{row.change:+.1%}"
    if row.change_low is not None and row.change_high is not None:
        change += f" ({row.change_low:+.1%} to {row.change_high:+.1%})"
    return row.metric, *sides, change, row.verdict, row.reason or ""


def compare(
    base: Session | str | Path | Sequence[Session | str | Path],
    new: Session | str | Path | Sequence[Session | str | Path],
) -> Comparison:
    """Compare recordings: what differs in how they were made, how fast they were, what they found.

    With one session a side, the answer is about these two recordings: frames are the unit, and what
    a machine does differently from run to run is not in it. With several a side, sessions are the
    unit; three a side is the least that gives a verdict.

    docs/compare.md says how, and why so.

    Args:
        base: One session, or several: paths, or sessions that are open (and stay so).
        new: The same, of what is held against ``base``.

    Raises:
        SessionError: A file cannot be used, or of several sessions one is named twice.
        TypeError: An argument is neither a path nor a session.

    Example:
        >>> import dgrec
        >>> comparison = dgrec.compare("recordings/monday.parquet", "recordings/tuesday.parquet")
        >>> [row.metric for row in comparison.rows][:2]
        ['throughput_fps', 'read_p50_ms']
    """
    with contextlib.ExitStack() as stack:
        sides = [[_opened(item, stack) for item in _items(side)] for side in (base, new)]
        one_a_side = len(sides[0]) == len(sides[1]) == 1
        for name, side in zip(("BASE", "NEW"), sides, strict=True):
            _check_different(name, side)
        if not one_a_side:
            _check_apart(*sides)
        metadata = [[session.metadata for session in side] for side in sides]
        same_session = one_a_side and sides[0][0].id == sides[1][0].id != ""
        footage = same_session or same_footage(*metadata)
        recordings: list[tuple[Recording, ...]]
        if one_a_side:
            samples = [read_sample(side[0]) for side in sides]
            speed = compare_samples(*samples, same_frames=footage)
            recordings = [
                (_recording(sample, *compared),)
                for sample, compared in zip(samples, speed.compared, strict=True)
            ]
            rows, pairs, unpaired = speed.rows, speed.pairs, speed.unpaired
        else:
            recordings, rows = _compare_sessions(*sides)
            pairs, unpaired = 0, (0, 0)
        return Comparison(
            base=recordings[0],
            new=recordings[1],
            differences=differences(*metadata),
            has_same_footage=footage,
            pairs=pairs,
            rows=rows,
            agreement=compare_detections(sides[0][0], sides[1][0]) if footage else None,
            unpaired=unpaired,
        )


def _items(side: Any) -> Sequence[Any]:
    items = list(side) if isinstance(side, list | tuple) else [side]
    if not items:
        raise ValueError("a side of the comparison has no session")
    return items


def _opened(item: Session | str | Path, stack: contextlib.ExitStack) -> Session:
    from dgrec.session import Session

    if isinstance(item, Session):
        return item
    if not isinstance(item, str | Path):
        raise TypeError(f"a session is a path, or what dgrec.open returns, not {item!r}")
    return stack.enter_context(Session(item))


def _check_different(name: str, sessions: Sequence[Session]) -> None:
    # Copies of one run would pass for several runs that hardly vary.
    seen: dict[str, Path] = {}
    for session in sessions:
        key = session.id or str(resolved(session.path))
        if key in seen:
            raise SessionError(
                f"{session.path}: is the same recording as {seen[key]}; {name} needs different ones"
            )
        seen[key] = session.path


def _check_apart(base: Sequence[Session], new: Sequence[Session]) -> None:
    # What is on both sides would make them alike.
    known = {session.id: session.path for session in base if session.id}
    for session in new:
        if session.id in known:
            raise SessionError(
                f"{session.path}: is the same recording as {known[session.id]}, which is in BASE; "
                "NEW needs others"
            )


def _recording(sample: Sample, compared: int, effective: float | None) -> Recording:
    return Recording(
        path=sample.path,
        session_id=sample.session_id,
        frames=sample.frames,
        warm_up=sample.warm_up,
        has_settled=sample.has_settled,
        dropped=dict(sample.dropped),
        lost=sample.lost,
        dropped_at_start=sample.dropped_at_start,
        skipped=sample.skipped,
        compared=compared,
        effective=effective,
        end_reason=sample.end_reason,
        damage=sample.damage,
    )


# --- one session a side ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    """A row before the verdicts, which take all rows."""

    metric: str
    unit: str
    less_is_better: bool
    base: Value
    new: Value
    change: Change
    #: What its value is of, if not of everything.
    note: str | None = None


@dataclass(frozen=True)
class Speed:
    """What `compare_samples` found."""

    rows: tuple[Row, ...]
    #: Of each side: frames whose durations were compared, and the effective size of the latency.
    compared: tuple[tuple[int, float | None], ...]
    pairs: int = 0
    unpaired: tuple[int, int] = (0, 0)


def compare_samples(base: Sample, new: Sample, *, same_frames: bool = False) -> Speed:
    """Return a row for each metric of two recordings.

    Args:
        same_frames: A frame of one side is that of the other with the same ``source_frame``: those
            that both sides have are compared in pairs. Results are counted over the same stretch
            of the source, whether or not the other side has each of them.
    """
    stretch = _stretch(base.numbered(), new.numbered()) if same_frames else None
    whole = stretch or (base, new)
    compared = whole if stretch is None else _pairs(*stretch)
    are_pairs = stretch is not None and _are_pairs(*whole)
    measured = [_throughput(*whole, paired=are_pairs)]
    effective: list[float | None] = []
    for name in STAGES:
        # Frames without the duration were left out: what is left must still be the same frames.
        missing = [np.isnan(sample.stages[name]) for sample in compared]
        paired = stretch is not None and np.array_equal(missing[0], missing[1])
        one, other = (sample.stage(name) for sample in compared)
        measured += _stage(name, one, other, paired)
        if name == "latency_ms":
            effective = [one.effective, other.effective]
    measured.append(_stalls(*whole, paired=are_pairs))
    sizes = tuple(zip(map(len, compared), effective, strict=True))
    if stretch is None:
        return Speed(_decided(measured), sizes)
    pairs = len(compared[0])
    unpaired = len(whole[0]) - pairs, len(whole[1]) - pairs
    return Speed(_decided(measured), sizes, pairs, unpaired)


def _stretch(base: Sample, new: Sample) -> tuple[Sample, Sample] | None:
    """Return both sides from the first frame that both have to the last; None if there is none."""
    common = np.intersect1d(base.source_frame, new.source_frame)
    if not len(common):
        return None
    first, last = int(common[0]), int(common[-1])
    return base.between(first, last), new.between(first, last)


def _pairs(base: Sample, new: Sample) -> tuple[Sample, Sample]:
    _, of_base, of_new = np.intersect1d(base.source_frame, new.source_frame, return_indices=True)
    return base.only(of_base), new.only(of_new)


def _are_pairs(base: Sample, new: Sample) -> bool:
    """Return whether the time before each result of one side has its counterpart."""
    if not np.array_equal(base.source_frame, new.source_frame):
        return False
    times = (base.gap_ms, new.gap_ms), (base.step_ms, new.step_ms)
    return all(np.array_equal(np.isnan(one), np.isnan(other)) for one, other in times)


def _throughput(base: Sample, new: Sample, *, paired: bool) -> _Measured:
    gaps = base.steps, new.steps
    estimates = [_as_rate(mean_estimate(series)) for series in gaps]
    if _is_identical(*gaps, paired) and estimates[0].value is not None:
        change = Change(0.0, 0.0, 0.0)
    else:
        change = series_change(estimates[0], estimates[1], paired=paired)
    a, b = map(_value, estimates)
    return _Measured(THROUGHPUT, "frames/s", False, a, b, change)


def _as_rate(interval: Estimate) -> Estimate:
    """Return frames a second, from the mean milliseconds from one to the next."""
    if interval.value is None or interval.value <= 0:
        return Estimate(None, interval.problem)
    return Estimate(
        1000 / interval.value,
        interval.problem,
        interval.influence,
        interval.variance,
        interval.block,
        up=interval.down,
        down=interval.up,
        low=None if interval.high is None else 1000 / interval.high,
        high=None if interval.low is None else 1000 / interval.low,
    )


def _stage(name: str, base: Series, new: Series, paired: bool) -> Iterator[_Measured]:
    series = base, new
    identical = _is_identical(base, new, paired)
    for label, p in _QUANTILES.items():
        estimates = [quantile_estimate(side, p) for side in series]
        values = [_value(estimate) for estimate in estimates]
        if identical:
            # Nothing is left to chance: even what too few frames show did not change.
            values = [replace(v, value=s.quantile(p)) for v, s in zip(values, series, strict=True)]
            change = Change(0.0, 0.0, 0.0)
        else:
            change = series_change(estimates[0], estimates[1], paired=paired)
        metric = f"{name.removesuffix('_ms')}_{label}_ms"
        yield _Measured(metric, "ms", True, values[0], values[1], change)


def _is_identical(base: Series, new: Series, paired: bool) -> bool:
    return paired and len(base) >= _MIN_PAIRS and np.array_equal(base.values, new.values)


def _stalls(base: Sample, new: Sample, *, paired: bool) -> _Measured:
    gaps = base.gaps, new.gaps
    seconds = base.seconds, new.seconds
    usual = next((series.quantile(0.5) for series in gaps if len(series)), 0.0)
    counts = [count_stalls(series, stall_limit(usual)) for series in gaps]
    if _is_identical(*gaps, paired):
        change = Change(0.0, 0.0, 0.0)
    else:
        change = rate_change(counts[0], seconds[0], counts[1], seconds[1])
    values = [
        Value(count / time * 60 if time > 0 else None)
        for (count, _), time in zip(counts, seconds, strict=True)
    ]
    return _Measured(STALLS, "1/min", True, values[0], values[1], change)


def _value(estimate: Estimate) -> Value:
    return Value(estimate.value, estimate.low, estimate.high)


def _decided(measured: Sequence[_Measured]) -> tuple[Row, ...]:
    changes = [item.change for item in measured]
    decisions = decide(changes, [item.less_is_better for item in measured])
    return tuple(
        Row(
            metric=item.metric,
            unit=item.unit,
            less_is_better=item.less_is_better,
            base=item.base,
            new=item.new,
            change=item.change.change,
            change_low=item.change.low,
            change_high=item.change.high,
            p_value=item.change.p_value,
            is_significant=decision.is_significant,
            verdict=decision.verdict,
            reason="; ".join(filter(None, (decision.reason, item.note))) or None,
        )
        for item, decision in zip(measured, decisions, strict=True)
    )


# --- several sessions a side -------------------------------------------------------------------


@dataclass(frozen=True)
class SessionValues:
    """What is kept of one of several sessions: one value of each metric; None if it has none."""

    values: Mapping[str, float | None]
    #: Median time between two results; None if there are none.
    usual_gap_ms: float | None
    #: Times between results of which a stall may be: few, unless there are few frames a second.
    long_gaps_ms: Floats
    seconds: float


def _compare_sessions(
    base: Iterable[Session], new: Iterable[Session]
) -> tuple[list[tuple[Recording, ...]], tuple[Row, ...]]:
    """Return the recordings of both sides, and the rows; one session at a time is in memory."""
    recordings: list[tuple[Recording, ...]] = []
    sides: list[list[SessionValues]] = []
    for sessions in (base, new):
        read, kept = [], []
        for session in sessions:
            sample = read_sample(session)
            read.append(_recording(sample, len(sample), sample.stage("latency_ms").effective))
            kept.append(_session_values(sample))
        recordings.append(tuple(read))
        sides.append(kept)
    return recordings, compare_values(*sides)


def _session_values(sample: Sample) -> SessionValues:
    gaps = sample.gaps
    values = {THROUGHPUT: _as_rate(mean_estimate(sample.steps)).value}
    for name in STAGES:
        series = sample.stage(name)
        for label, p in _QUANTILES.items():
            metric = f"{name.removesuffix('_ms')}_{label}_ms"
            values[metric] = quantile_estimate(series, p).value
    return SessionValues(
        values,
        gaps.quantile(0.5) if len(gaps) else None,
        gaps.values[gaps.values > STALL_MS],
        sample.seconds,
    )


def compare_values(base: Sequence[SessionValues], new: Sequence[SessionValues]) -> tuple[Row, ...]:
    """Return a row for each metric of several sessions a side."""
    measured = []
    for metric, unit in METRICS.items():
        if metric == STALLS:
            continue
        a, b = (
            [value for one in side if (value := one.values[metric]) is not None]
            for side in (base, new)
        )
        parts = [
            f"of {len(values)} of {len(side)} sessions of {name}"
            for name, values, side in (("BASE", a, base), ("NEW", b, new))
            if 0 < len(values) < len(side)
        ]
        values = _side_value(a), _side_value(b)
        note = " and ".join(parts) or None
        less = metric != THROUGHPUT
        measured.append(_Measured(metric, unit, less, *values, welch_change(a, b), note))
    return _decided([*measured, _session_stalls(base, new)])


def _session_stalls(base: Sequence[SessionValues], new: Sequence[SessionValues]) -> _Measured:
    usual = [one.usual_gap_ms for one in base if one.usual_gap_ms is not None]
    limit = stall_limit(float(np.median(usual)) if usual else 0.0)
    sides = [
        [(int(np.sum(one.long_gaps_ms > limit)), one.seconds) for one in side if one.seconds > 0]
        for side in (base, new)
    ]
    values = []
    for side in sides:
        rates = [count / seconds * 60 for count, seconds in side]
        values.append(
            Value(float(np.mean(rates)), min(rates), max(rates)) if rates else Value(None)
        )
    return _Measured(STALLS, "1/min", True, values[0], values[1], session_rate_change(*sides))


def _side_value(values: Sequence[float]) -> Value:
    """Return the geometric mean of the sessions' values, with their smallest and largest."""
    if not values:
        return Value(None)
    if min(values) <= 0:
        return Value(float(np.mean(values)), min(values), max(values))
    return Value(float(np.exp(np.mean(np.log(values)))), min(values), max(values))
