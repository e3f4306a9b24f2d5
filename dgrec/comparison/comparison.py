"""Comparing recordings: BASE, and NEW that came after a change of model, device or version."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dgrec.comparison.agreement import Agreement, OnPair, compare_detections
from dgrec.comparison.changes import CONFIDENCE, MARGIN
from dgrec.comparison.metrics import (
    MetricRow,
    SessionValues,
    compare_samples,
    compare_values,
    session_values,
)
from dgrec.comparison.provenance import Difference, differences, same_footage
from dgrec.comparison.samples import Sample, read_sample
from dgrec.errors import SessionError
from dgrec.files import resolved
from dgrec.format import MachineLoad
from dgrec.session import Session, table_card
from dgrec.units import counted, digits


@dataclass(frozen=True)
class ComparedSession:
    """One of the sessions compared. Frames of the warm-up only count in ``frames`` and losses."""

    path: str
    session_id: str
    frames: int
    #: Frames left out at the beginning; 0 where the session did not settle (``has_settled``).
    warm_up: int
    #: None: too short, or not timed.
    has_settled: bool | None
    #: Source frames lost once the model had started, by place. None, here and below: the file does
    #: not have it.
    dropped: dict[str, int | None]
    #: The same, at any place.
    lost: int | None
    skipped: int | None
    #: Frames whose durations are compared: without the warm-up, and where there are pairs, only
    #: frames that are in both.
    compared: int
    #: How many independent frames would say as much about the latency; None if too short.
    effective: float | None
    #: ``finished``, ``limit``, ...; None if the recording never ended: killed, or still running.
    end_reason: str | None = None
    #: A line for each part of the file that cannot be read.
    damage: tuple[str, ...] = ()
    #: Source frames lost while the model started.
    dropped_at_start: int | None = 0
    #: How busy the machine was.
    machine: MachineLoad | None = None


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    Example:
        >>> import dgrec
        >>> comparison = dgrec.compare("recordings/monday.parquet", "recordings/tuesday.parquet")
        >>> comparison.has_same_footage, comparison.pairs
        (True, 420)
    """

    base: tuple[ComparedSession, ...]
    new: tuple[ComparedSession, ...]
    differences: tuple[Difference, ...]
    #: Whether both sides are known to have seen the same file.
    has_same_footage: bool
    #: Frames that were compared pair by pair, as both sides have them; 0 if there are none.
    pairs: int
    rows: tuple[MetricRow, ...]
    #: Between the first session of each side; None unless all saw the same footage.
    agreement: Agreement | None
    #: Frames of BASE and of NEW between the first pair and the last that are in no pair.
    unpaired: tuple[int, int] = (0, 0)

    @property
    def is_same_recording(self) -> bool:
        """True if one recording is compared with itself."""
        return self.unit == "frame" and self.base[0].session_id == self.new[0].session_id != ""

    @property
    def unit(self) -> str:
        """The unit that chance draws: ``frame`` (one session a side) or ``session``."""
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

        None where a file does not have it.
        """
        base, new = ([recording.lost for recording in side] for side in (self.base, self.new))
        return _sum(base), _sum(new)

    def _sums(self, count: Callable[[ComparedSession], int]) -> tuple[int, int]:
        return sum(map(count, self.base)), sum(map(count, self.new))

    def row(self, metric: str) -> MetricRow:
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
            yield f"Agreement (F1) of {counted(found.frames, 'frame')}: {found.f1:.4f}."

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


def _card_row(row: MetricRow) -> tuple[str, ...]:
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
    *,
    on_pair: OnPair | None = None,
) -> Comparison:
    """Compare recordings: what differs in how they were made, how fast they were, what they found.

    With one session a side, the answer is about these two recordings: frames are the unit, and what
    a machine does differently from run to run is not in it. With several a side, sessions are the
    unit; three a side is the least that gives a verdict.

    docs/compare.md says how, and why.

    Args:
        base: One session, or several: paths, or sessions that are open (and stay so).
        new: The same, for the side that is compared with it.
        on_pair: Gets each pair of frames whose detections are compared.

    Raises:
        SessionError: A file cannot be used, a side has none, or one of several is named twice.
        TypeError: An argument is neither a path nor a session.

    Example:
        >>> import dgrec
        >>> comparison = dgrec.compare("recordings/monday.parquet", "recordings/tuesday.parquet")
        >>> [row.metric for row in comparison.rows][:2]
        ['throughput_fps', 'read_p50_ms']
    """
    from dgrec.sql import views

    with contextlib.ExitStack() as stack:
        given = {"base": base, "new": new}
        sides = [[_opened(item, stack) for item in _items(*side)] for side in given.items()]
        one_a_side = len(sides[0]) == len(sides[1]) == 1
        for name, side in zip(("BASE", "NEW"), sides, strict=True):
            _check_different(name, side)
        if not one_a_side:
            _check_apart(*sides)
        metadata = [[session.metadata for session in side] for side in sides]
        if one_a_side:
            footage = are_of_same_frames(sides[0][0], sides[1][0])
        else:
            footage = same_footage(*metadata)
        agreement = compare_detections(sides[0][0], sides[1][0], on_pair) if footage else None
        recordings: list[tuple[ComparedSession, ...]]
        if one_a_side:
            views.return_memory(sum(len(side[0]) for side in sides))
            samples = [read_sample(side[0]) for side in sides]
            facts = [sample.without_frames() for sample in samples]
            # Handed over, not kept: `compare_samples` drops what it no longer needs.
            speed = compare_samples(samples.pop(0), samples.pop(), same_frames=footage)
            recordings = [
                (_compared(sample, *compared),)
                for sample, compared in zip(facts, speed.compared, strict=True)
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
            agreement=agreement,
            unpaired=unpaired,
        )


def are_of_same_frames(base: Session, new: Session) -> bool:
    """Return whether frames of two sessions with the same source number are the same picture."""
    return base.id == new.id != "" or same_footage([base.metadata], [new.metadata])


def _items(name: str, side: Any) -> Sequence[Any]:
    items = list(side) if isinstance(side, list | tuple) else [side]
    if not items:
        raise SessionError(f"{name}: no session is named")
    return items


def _opened(item: Session | str | Path, stack: contextlib.ExitStack) -> Session:
    from dgrec.session import Session

    if isinstance(item, Session):
        return item
    return stack.enter_context(Session(item))


def _check_different(name: str, sessions: Sequence[Session]) -> None:
    # Copies of one run would pass for several runs that hardly vary.
    seen: dict[str, Path] = {}
    for session in sessions:
        key = session.id or str(resolved(session.place))
        if key in seen:
            raise SessionError(
                f"{session.path}: is the same recording as {seen[key]}; {name} needs different ones"
            )
        seen[key] = session.path


def _check_apart(base: Sequence[Session], new: Sequence[Session]) -> None:
    # A session on both sides would make them alike.
    known = {session.id: session.path for session in base if session.id}
    for session in new:
        if session.id in known:
            raise SessionError(
                f"{session.path}: is the same recording as {known[session.id]}, which is in BASE; "
                "NEW needs others"
            )


def _compared(sample: Sample, compared: int, effective: float | None) -> ComparedSession:
    return ComparedSession(
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
        machine=sample.machine,
    )


def _compare_sessions(
    base: Iterable[Session], new: Iterable[Session]
) -> tuple[list[tuple[ComparedSession, ...]], tuple[MetricRow, ...]]:
    """Return the recordings of both sides, and the rows; one session at a time is in memory."""
    recordings: list[tuple[ComparedSession, ...]] = []
    sides: list[list[SessionValues]] = []
    for sessions in (base, new):
        read, kept = [], []
        for session in sessions:
            sample = read_sample(session)
            read.append(_compared(sample, len(sample), sample.stage("latency_ms").effective))
            kept.append(session_values(sample))
        recordings.append(tuple(read))
        sides.append(kept)
    return recordings, compare_values(*sides)
