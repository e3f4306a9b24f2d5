"""Evaluates rules frame by frame, in the same way live and for a recording.

Time is that of the results: a frame counts at the moment at which its result came out, in whole
microseconds, as rows hold it.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dgrec.alerts.detections import known_number
from dgrec.alerts.events import EventCondition, EventRule
from dgrec.alerts.rule import ROW_VALUES, WINDOW_S, Rule, Value, Values, window_values
from dgrec.errors import DgrecError

_WINDOW_US = WINDOW_S * 1_000_000


@dataclass(frozen=True, slots=True)
class AlertFrame:
    """The facts about a frame that rules use.

    Args:
        completed_us: When the result came out, in microseconds since 1970.
        values: The numbers of its row (`ROW_VALUES`); None or NaN: unknown.
        results: Its detections.
        added: The counts of ZoneCounter and LineCounter for it, where `Evaluator.wants_added`.
    """

    completed_us: int
    values: Mapping[str, float | None]
    results: Any
    added: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Alert:
    """A stretch of time in which a rule held.

    Args:
        name: Of the rule.
        since_us: When its condition began to hold.
        fired_us: When it had held for long enough.
        ended_us: When it ceased to hold; None: it still did at the end.
        source_frame: The frame at which it fired; None: no frame had come for too long, or its
            number is not known.
    """

    name: str
    since_us: int
    fired_us: int
    source_frame: int | None = None
    ended_us: int | None = None


@dataclass(slots=True)
class _State:
    rule: Rule
    event: EventCondition | None
    has_reported: bool = False
    since_us: int | None = None
    alert: Alert | None = None


class Evaluator:
    """Follows rules over the frames of one recording, in their order.

    Args:
        on_change: Called with each alert that has fired or ended.
        on_problem: Called with a rule's name and the reason, where it cannot be evaluated; once
            for each rule.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        on_change: Callable[[Alert], None],
        on_problem: Callable[[str, str], None] = lambda name, reason: None,
    ) -> None:
        self._rules = rules
        self._on_change = on_change
        self._on_problem = on_problem
        #: Whether rules ask for the counts of analyzers.
        self.wants_added = any(
            isinstance(rule, EventRule) and rule.needed_analyzer for rule in rules
        )
        wanted = {value for rule in rules for value in rule.values}
        self._wanted = sorted(wanted, key=repr)
        self._begin()

    def restart(self, ended_us: int) -> None:
        """Begin anew, as the next run of a recorder does; alerts that still hold end with this run.

        Args:
            ended_us: When this run ended.
        """
        self.until(ended_us)
        for state in self._states:
            if state.alert is not None:
                self._end(state, max(ended_us, state.alert.fired_us))
        reported = {state.rule.name for state in self._states if state.has_reported}
        self._begin()
        for state in self._states:
            state.has_reported = state.rule.name in reported

    def _begin(self) -> None:
        self._states = [
            _State(rule, EventCondition(rule) if isinstance(rule, EventRule) else None)
            for rule in self._rules
        ]
        #: Rules over the time without frames.
        self._silent = sorted(
            (state for state in self._states if state.rule.missing_s),
            key=lambda state: state.rule.missing_s,
        )
        self._windows = _Windows({*self._wanted})
        self._last_us: int | None = None

    def frame(
        self, frame: AlertFrame, source_frame: int | None, *, is_after_others: bool = False
    ) -> None:
        """Take the next frame.

        Args:
            source_frame: Its number in the source, if it is known.
            is_after_others: Frames that are not there any more came before it.
        """
        now = frame.completed_us
        if not is_after_others:
            self.until(now)
        self._last_us = now
        self._windows.add(frame)
        values = {value: self._value(value, frame) for value in self._wanted}
        for state in self._states:
            if state.rule.missing_s:
                self._end(state, now)
                continue
            if not self._holds(state, frame, source_frame, values):
                state.since_us = None
                self._end(state, now)
                continue
            if state.since_us is None:
                state.since_us = now
            if state.alert is None and now - state.since_us >= state.rule.lasting_s * 1e6:
                self._fire(state, Alert(state.rule.name, state.since_us, now, source_frame))

    def until(self, now_us: int) -> None:
        """Note the time: no frame has come since the last one."""
        since_us = self._last_us
        if since_us is None:
            return
        # Rules that wait less fire first, however often this is called.
        for state in self._silent:
            fired_us = since_us + round(state.rule.missing_s * 1e6)
            if state.alert is None and now_us >= fired_us:
                self._fire(state, Alert(state.rule.name, since_us, fired_us))

    # --- inside ---

    def _holds(
        self, state: _State, frame: AlertFrame, source_frame: int | None, values: Values
    ) -> bool:
        if state.event is None:
            return state.rule.holds(values)
        try:
            return state.event.holds(frame.completed_us, frame.results, frame.added)
        except DgrecError as error:
            if not state.has_reported:
                state.has_reported = True
                where = "" if source_frame is None else f"frame {source_frame}: "
                self._on_problem(state.rule.name, f"{where}{error}")
            return False

    def _fire(self, state: _State, alert: Alert) -> None:
        state.alert = alert
        self._on_change(alert)

    def _end(self, state: _State, now_us: int) -> None:
        if state.alert is not None:
            state.alert.ended_us = now_us
            self._on_change(state.alert)
            state.alert = None

    def _value(self, value: Value, frame: AlertFrame) -> float | None:
        if value.name in ROW_VALUES:
            return _known(frame.values.get(value.name))
        if value.name in ("count", "best"):
            scores = list(_scores(frame.results, value.label))
            if value.name == "count":
                return float(len(scores))
            return max((score for score in scores if score is not None), default=None)
        return self._windows.value(value.name)


def _known(number: float | None) -> float | None:
    return None if number is None or math.isnan(number) else float(number)


def _scores(results: Any, label: str | None) -> Iterator[float | None]:
    for item in results if isinstance(results, list) else ():
        if isinstance(item, Mapping) and (label is None or _is_called(item, label)):
            yield known_number(item.get("score"))


def _is_called(item: Mapping[Any, Any], label: str) -> bool:
    name = item.get("label")  # an array would be compared item by item
    return isinstance(name, str) and name == label


@dataclass
class _Window:
    """The known values of the last seconds, with their stamps, and sorted.

    A new quantile for each frame must not sort thousands of values each time.
    """

    stamps: deque[int] = field(default_factory=deque)
    values: deque[float] = field(default_factory=deque)
    ranked: list[float] = field(default_factory=list)

    def add(self, now_us: int, number: float | None) -> None:
        if number is not None:
            self.stamps.append(now_us)
            self.values.append(number)
            bisect.insort(self.ranked, number)
        while self.stamps and self.stamps[0] <= now_us - _WINDOW_US:
            self.stamps.popleft()
            del self.ranked[bisect.bisect_left(self.ranked, self.values.popleft())]

    def quantile(self, quantile: float) -> float | None:
        """Return the same as `numpy.quantile`; None without values."""
        if not self.ranked:
            return None
        place = (len(self.ranked) - 1) * quantile
        before = math.floor(place)
        low, high = self.ranked[before], self.ranked[min(before + 1, len(self.ranked) - 1)]
        share = place - before
        if share >= 0.5:
            return high - (high - low) * (1 - share)
        return low + (high - low) * share


class _Windows:
    """Values over the last seconds: rates, and quantiles of a row's numbers."""

    def __init__(self, wanted: set[Value]) -> None:
        self._quantiles = {
            name: wanted_one
            for name, wanted_one in window_values().items()
            if Value(name) in wanted
        }
        self._of = {value: _Window() for value, _ in self._quantiles.values()}
        self._frames = _Window() if Value("fps") in wanted else None

    def add(self, frame: AlertFrame) -> None:
        for name, window in self._of.items():
            window.add(frame.completed_us, _known(frame.values.get(name)))
        if self._frames is not None:
            self._frames.add(frame.completed_us, 1.0)

    def value(self, name: str) -> float | None:
        if name == "fps":
            assert self._frames is not None
            stamps = self._frames.stamps
            span = stamps[-1] - stamps[0]
            return (len(stamps) - 1) / span * 1e6 if span else None
        value, quantile = self._quantiles[name]
        return self._of[value].quantile(quantile)
