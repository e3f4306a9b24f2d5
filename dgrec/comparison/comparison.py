"""Comparing recordings: BASE, and NEW that came after a change of model, device or version."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dgrec.card import comparison_card
from dgrec.comparison.agreement import Agreement, compare_detections
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
    welch_change,
)
from dgrec.comparison.provenance import Difference, differences, same_footage
from dgrec.comparison.samples import STAGES, Sample, read_sample
from dgrec.errors import SessionError

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["METRICS", "Comparison", "Recording", "Row", "Value", "compare", "compare_samples"]

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
    has_settled: bool
    dropped: dict[str, int]
    skipped: int
    #: How many independent frames would tell as much about the latency; None if too short to say.
    effective: float | None


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
    #: Why the verdict is UNCLEAR.
    reason: str | None


@dataclass(frozen=True)
class Comparison:
    """What `compare` found out."""

    base: tuple[Recording, ...]
    new: tuple[Recording, ...]
    differences: tuple[Difference, ...]
    #: Whether both sides are known to have seen the same file.
    has_same_footage: bool
    #: Frames that were compared pair by pair, as both sides have the very same ones; else 0.
    pairs: int
    rows: tuple[Row, ...]
    #: Of the detections of the first session on each side; None unless all saw the same footage.
    agreement: Agreement | None

    @property
    def unit(self) -> str:
        """What was drawn from chance: ``frame`` (one session a side) or ``session``."""
        return "frame" if len(self.base) == len(self.new) == 1 else "session"

    @property
    def dropped(self) -> tuple[int, int]:
        """Source frames lost, on either side."""
        base, new = (sum(sum(r.dropped.values()) for r in side) for side in (self.base, self.new))
        return base, new

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
        return comparison_card(self)

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
        SessionError: A file cannot be used, or a session is named twice on one side.
    """
    with contextlib.ExitStack() as stack:
        sides = [[_opened(item, stack) for item in _items(side)] for side in (base, new)]
        for name, side in zip(("BASE", "NEW"), sides, strict=True):
            _check_different(name, side)
        metadata = [[session.metadata for session in side] for side in sides]
        footage = same_footage(*metadata)
        recordings: list[tuple[Recording, ...]]
        one_a_side = len(sides[0]) == len(sides[1]) == 1
        same_session = one_a_side and sides[0][0].id == sides[1][0].id != ""
        if one_a_side:
            a, b = (read_sample(side[0]) for side in sides)
            rows, pairs = compare_samples(a, b, same_frames=footage or same_session)
            recordings = [(_recording(side),) for side in (a, b)]
        else:
            recordings, rows = _compare_sessions(*sides)
            pairs = 0
        agreement = None
        if footage or same_session:
            agreement = compare_detections(sides[0][0], sides[1][0])
        return Comparison(
            base=recordings[0],
            new=recordings[1],
            differences=differences(*metadata),
            has_same_footage=footage or same_session,
            pairs=pairs,
            rows=rows,
            agreement=agreement,
        )


def _items(side: Any) -> Sequence[Any]:
    items = list(side) if isinstance(side, list | tuple) else [side]
    if not items:
        raise ValueError("a side of the comparison has no session")
    return items


def _opened(item: Session | str | Path, stack: contextlib.ExitStack) -> Session:
    from dgrec.session import Session

    return item if isinstance(item, Session) else stack.enter_context(Session(item))


def _check_different(name: str, sessions: Sequence[Session]) -> None:
    # Copies of one run would pass for several runs that hardly vary.
    seen: dict[str, Path] = {}
    for session in sessions:
        earlier = seen.setdefault(session.id or str(session.path.resolve()), session.path)
        if earlier is not session.path:
            raise SessionError(
                f"{session.path}: is the same recording as {earlier}; {name} needs different ones"
            )


def _recording(sample: Sample) -> Recording:
    return Recording(
        path=sample.path,
        session_id=sample.session_id,
        frames=sample.frames,
        warm_up=sample.warm_up,
        has_settled=sample.has_settled,
        dropped=dict(sample.dropped),
        skipped=sample.skipped,
        effective=sample.stage("latency_ms").effective,
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


def compare_samples(
    base: Sample, new: Sample, *, same_frames: bool = False
) -> tuple[tuple[Row, ...], int]:
    """Return a row for each metric of two recordings, and how many pairs of frames there were.

    Args:
        same_frames: A frame of one side is that of the other with the same ``source_frame``. If
            neither side lacks one in between, they are compared in pairs.
    """
    paired = _common(base, new) if same_frames else None
    if paired is not None:
        base, new = paired
    measured = [
        _throughput(base, new, paired is not None),
        *chain.from_iterable(_stage(name, base, new, paired is not None) for name in STAGES),
        _stalls(base, new, paired is not None),
    ]
    return _decided(measured), len(base) if paired is not None else 0


def _common(base: Sample, new: Sample) -> tuple[Sample, Sample] | None:
    """Return both sides, cut to the frames that both have, or None if they are not the same."""
    if not len(base) or not len(new):
        return None
    first = max(base.source_frame[0], new.source_frame[0])
    last = min(base.source_frame[-1], new.source_frame[-1])
    cut = [sample.between(int(first), int(last)) for sample in (base, new)]
    if not len(cut[0]) or not np.array_equal(cut[0].source_frame, cut[1].source_frame):
        return None
    return cut[0], cut[1]


def _throughput(base: Sample, new: Sample, paired: bool) -> _Measured:
    gaps = base.gaps, new.gaps
    estimates = [_as_rate(mean_estimate(series)) for series in gaps]
    if _is_identical(*gaps, paired) and estimates[0].value is not None:
        change = Change(0.0, 0.0, 0.0)
    else:
        change = series_change(estimates[0], estimates[1], paired=paired)
    a, b = map(_value, estimates)
    return _Measured(THROUGHPUT, "frames/s", False, a, b, change)


def _as_rate(interval: Estimate) -> Estimate:
    """Return results a second, from the mean milliseconds between two of them."""
    if interval.value is None or interval.value <= 0:
        return Estimate(None, interval.problem)
    return Estimate(
        1000 / interval.value,
        interval.problem,
        None if interval.influence is None else -interval.influence,
        interval.block,
        low=None if interval.high is None else 1000 / interval.high,
        high=None if interval.low is None else 1000 / interval.low,
    )


def _stage(name: str, base: Sample, new: Sample, paired: bool) -> Iterator[_Measured]:
    series = base.stage(name), new.stage(name)
    # Frames without the duration were left out: what is left must still be the same frames.
    missing = [np.isnan(sample.stages[name]) for sample in (base, new)]
    paired = paired and np.array_equal(missing[0], missing[1])
    identical = _is_identical(*series, paired)
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
    return paired and len(base) > 0 and np.array_equal(base.values, new.values)


def _stalls(base: Sample, new: Sample, paired: bool) -> _Measured:
    counts = base.stalls, new.stalls
    values = [
        Value(_per_minute(count, sample))
        for (count, _), sample in zip(counts, (base, new), strict=True)
    ]
    if _is_identical(base.gaps, new.gaps, paired):
        change = Change(0.0, 0.0, 0.0)
    else:
        change = rate_change(counts[0], base.seconds, counts[1], new.seconds)
    return _Measured(STALLS, "1/min", True, values[0], values[1], change)


def _per_minute(count: int, sample: Sample) -> float | None:
    return count / sample.seconds * 60 if sample.seconds > 0 else None


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
            reason=decision.reason,
        )
        for item, decision in zip(measured, decisions, strict=True)
    )


# --- several sessions a side -------------------------------------------------------------------


def _compare_sessions(
    base: Iterable[Session], new: Iterable[Session]
) -> tuple[list[tuple[Recording, ...]], tuple[Row, ...]]:
    """Return the recordings of both sides, and the rows; one session at a time is in memory."""
    recordings: list[tuple[Recording, ...]] = []
    sides: list[dict[str, list[float]]] = []
    for sessions in (base, new):
        values: dict[str, list[float]] = {}
        read = []
        for session in sessions:
            sample = read_sample(session)
            read.append(_recording(sample))
            for metric, value in _session_values(sample):
                values.setdefault(metric, []).extend([] if value is None else [value])
        recordings.append(tuple(read))
        sides.append(values)
    measured = []
    for metric in sides[0]:
        a, b = sides[0][metric], sides[1][metric]
        change = welch_change(a, b)
        less, unit = metric != THROUGHPUT, METRICS[metric]
        measured.append(_Measured(metric, unit, less, _side_value(a), _side_value(b), change))
    return recordings, _decided(measured)


def _session_values(sample: Sample) -> Iterator[tuple[str, float | None]]:
    yield THROUGHPUT, _as_rate(mean_estimate(sample.gaps)).value
    for name in STAGES:
        series = sample.stage(name)
        for label, p in _QUANTILES.items():
            metric = f"{name.removesuffix('_ms')}_{label}_ms"
            yield metric, quantile_estimate(series, p).value
    yield STALLS, _per_minute(sample.stalls[0], sample)


def _side_value(values: Sequence[float]) -> Value:
    """Return the geometric mean of the sessions' values, with their smallest and largest."""
    if not values:
        return Value(None)
    if min(values) <= 0:
        return Value(float(np.mean(values)), min(values), max(values))
    return Value(float(np.exp(np.mean(np.log(values)))), min(values), max(values))
