"""Conditions on a comparison, for CI: ``latency_p95_ms > +10% and > +2ms``.

::

    condition  = all-of { "or" all-of }
    all-of     = clause { "and" clause }
    clause     = [ metric ] ( ">" | ">=" | "<" | "<=" ) number
    number     = [ "+" | "-" ] decimal [ unit ]

A number with a sign is a change from BASE to NEW: in per cent of BASE (``+10%``) or in the metric's
own unit (``+2ms``). A number without one is the value of NEW (``> 50ms``, ``agreement < 0.99``). A
clause without a metric is about the metric of the clause before it.

A change counts where it is more than chance: the change that was measured must lie beyond the
number *and* be significant. Holm's correction takes the metrics whose change is named in the
conditions, not all rows: a condition on one metric need not pay for seventeen. So a run that
happened to be slow does not fail a build; `Outcome.doubtful` names such clauses. For a metric that
was not measured, or in too few frames to have an interval, there is `Outcome.problem`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import Final

from dgrec.comparison.agreement import Agreement
from dgrec.comparison.changes import CONFIDENCE
from dgrec.comparison.comparison import Comparison
from dgrec.comparison.metrics import METRICS, MetricRow
from dgrec.comparison.verdicts import holm
from dgrec.errors import ConfigError

_TOKEN = re.compile(
    r"\s*(?:(?P<word>[A-Za-z_]\w*)|(?P<compare>[<>]=?)"
    r"|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(?P<unit>%|frames/s|1/min|(?!(?:and|or)\b)[a-z]+)?)",
    re.IGNORECASE,
)
_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
#: How units may be written, by the unit of the metric.
_UNITS: Final = {
    "ms": {"ms": 1.0, "us": 0.001, "s": 1000.0},
    "frames/s": {"frames/s": 1.0, "fps": 1.0},
    "1/min": {"1/min": 1.0},
    "frames": {"frames": 1.0},
    "": {},
}
#: Metrics that have no row, with their units.
_OF_AGREEMENT: Final = ("agreement", "precision", "recall", "mean_iou")
_COUNTS: Final = ("frames", "frames_compared", "dropped")
_OTHERS: Final = {**dict.fromkeys(_COUNTS, "frames"), **dict.fromkeys(_OF_AGREEMENT, "")}


@dataclass(frozen=True)
class Clause:
    """One comparison: of a metric's change, in its unit or in per cent of BASE, or of its value."""

    text: str
    metric: str
    compare: str
    number: float
    is_change: bool
    is_percent: bool


@dataclass(frozen=True)
class Outcome:
    """The outcome of a condition: if it holds, the comparison fails."""

    holds: bool
    #: Clauses that are beyond their numbers, but perhaps by chance.
    doubtful: tuple[str, ...] = ()
    #: Why it is unknown whether the condition holds.
    problem: str | None = None


@dataclass(frozen=True)
class Limit:
    """A condition: it holds if all clauses of at least one group hold."""

    text: str
    groups: tuple[tuple[Clause, ...], ...]

    def _check(self, comparison: Comparison, significant: Mapping[str, bool]) -> Outcome:
        doubtful: list[str] = []
        problems: list[str] = []
        holds = False
        for group in self.groups:
            states = [_state(clause, comparison, significant) for clause in group]
            if not all(state.is_beyond for state in states):
                continue
            group_problems = [state.problem for state in states if state.problem is not None]
            group_doubts = [state.doubt for state in states if state.doubt is not None]
            holds = holds or not (group_problems or group_doubts)
            problems += group_problems
            doubtful += group_doubts
        return Outcome(
            holds,
            tuple(dict.fromkeys(doubtful)),
            problems[0] if problems and not holds else None,
        )


def check_limits(limits: Sequence[Limit], comparison: Comparison) -> list[Outcome]:
    """Return for each condition whether it holds.

    All conditions of a build are judged together: the chance that any fails it for nothing is 5%.
    """
    clauses = chain.from_iterable(chain.from_iterable(limit.groups) for limit in limits)
    named = {clause.metric for clause in clauses if clause.is_change}
    rows = [row for row in comparison.rows if row.metric in named]
    passed = holm([row.p_value for row in rows])
    significant = dict(zip((row.metric for row in rows), passed, strict=True))
    return [limit._check(comparison, significant) for limit in limits]


def parse_limit(text: str) -> Limit:
    """Parse a condition.

    Raises:
        ConfigError: ``text`` is not a condition; the message says what was expected, and where.
    """
    return _Parser(text).limit()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, str | None]] = []
        position = 0
        while text[position:].strip():
            found = _TOKEN.match(text, position)
            if found is None:
                raise self._error(text[position:].strip())
            for kind in ("word", "compare", "number"):
                if found[kind] is not None:
                    self.tokens.append((kind, found[kind], found["unit"]))
            position = found.end()

    def limit(self) -> Limit:
        groups = [[self._clause(None)]]
        while self.tokens:
            word = self._take("word", "'and' or 'or'")[1].lower()
            if word not in ("and", "or"):
                raise self._error(word, "'and' or 'or'")
            clause = self._clause(groups[-1][-1].metric)
            if word == "or":
                groups.append([])
            groups[-1].append(clause)
        return Limit(self.text, tuple(map(tuple, groups)))

    def _clause(self, metric: str | None) -> Clause:
        if self.tokens and self.tokens[0][0] == "word":
            metric = self.tokens.pop(0)[1]
        if metric is None:
            raise self._error(self.tokens[0][1] if self.tokens else "", "a metric")
        unit = _metric_unit(metric)
        compare = self._take("compare", "<, <=, > or >=")[1]
        _, number, written = self._take("number", "a number")
        is_change, is_percent = number[0] in "+-", written == "%"
        if is_percent and not is_change:
            write = f"+{number}% (or -{number}%): a change, in per cent of BASE"
            if metric in _OF_AGREEMENT:
                write = f"{float(number) / 100:g}"
            raise ConfigError(
                f"{self.text!r}: a percentage is a change, and needs a sign: write {write}"
            )
        scale = 1.0
        if written is not None and not is_percent:
            if written not in _UNITS[unit]:
                allowed = " or ".join([*_UNITS[unit], "%"] if is_change else _UNITS[unit])
                raise ConfigError(
                    f"{self.text!r}: {metric} is not in {written!r}; write "
                    + (allowed or "a number without a unit")
                )
            scale = _UNITS[unit][written]
        return Clause(
            f"{metric} {compare} {number}{written or ''}",
            metric,
            compare,
            float(number) * scale,
            is_change,
            is_percent,
        )

    def _take(self, kind: str, expected: str) -> tuple[str, str, str | None]:
        if not self.tokens or self.tokens[0][0] != kind:
            raise self._error(self.tokens[0][1] if self.tokens else "", expected)
        return self.tokens.pop(0)

    def _error(self, found: str, expected: str = "a condition") -> ConfigError:
        place = f"{found!r} where" if found else "nothing more where"
        return ConfigError(
            f"{self.text!r}: {place} {expected} should be; write, for example, "
            "'latency_p95_ms > +10% and > +2ms'"
        )


def _metric_unit(metric: str) -> str:
    units = {**METRICS, **_OTHERS}
    if metric not in units:
        close = get_close_matches(metric.lower(), units, n=3, cutoff=0.7)
        raise ConfigError(
            f"{metric!r} is not a metric; "
            + (f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(units)}")
        )
    return units[metric]


@dataclass(frozen=True)
class _State:
    """The state of a clause: whether the value is, or may be, beyond its number."""

    is_beyond: bool
    doubt: str | None = None
    problem: str | None = None


def _state(clause: Clause, comparison: Comparison, significant: Mapping[str, bool]) -> _State:
    row = next((row for row in comparison.rows if row.metric == clause.metric), None)
    agreement = comparison.agreement
    if clause.metric in _OF_AGREEMENT and agreement is None:
        return _unknown(clause, "detections are compared only where all sessions saw the same file")
    base, new = _values(clause.metric, comparison, row)
    if new is None or (clause.is_change and base is None):
        # A condition that cannot be checked must not pass for one that was met.
        reason = row.reason if row is not None else _no_agreement(clause.metric, agreement)
        if clause.metric in _COUNTS:
            reason = "a file does not have it"
        return _unknown(clause, reason or "there is no such value")
    compare = _COMPARE[clause.compare]
    if not clause.is_change or base is None:
        return _State(compare(new, clause.number))
    if row is not None and row.change_low is None:
        # Too few frames or sessions: a change that looks small may be large, and the reverse.
        return _unknown(clause, row.reason or "it has no interval")
    changed = new - base
    if clause.is_percent and changed:
        # From 0, any change is beyond any percentage.
        changed = 100 * changed / base if base else changed * math.inf
    is_beyond = compare(changed, clause.number)
    if row is None or significant[row.metric] or not is_beyond:
        return _State(is_beyond)
    reason = row.reason or "the change is too small to rule out chance"
    if row.p_value is not None and row.p_value < 1 - CONFIDENCE:
        reason = f"may be chance, as one of {len(significant)} metrics asked for (Holm)"
    unit = "%" if clause.is_percent else ""
    return _State(True, doubt=f"{clause.text}: {changed:+.3g}{unit}, but {reason}")


def _unknown(clause: Clause, reason: str) -> _State:
    return _State(True, problem=f"{clause.text}: unknown: {reason}")


def _no_agreement(metric: str, agreement: Agreement | None) -> str | None:
    if agreement is None:
        return None
    if not agreement.frames:
        return "no frame is in both"
    if metric == "mean_iou" or not agreement.not_compared:
        side = "BASE" if metric == "recall" else "NEW"
        return "no boxes overlap" if metric == "mean_iou" else f"{side} has no detections"
    return "none of the results can be compared"


def _values(
    metric: str, comparison: Comparison, row: MetricRow | None
) -> tuple[float | None, float | None]:
    """Return a metric of BASE and of NEW; BASE agrees with itself."""
    if row is not None:
        return row.base.value, row.new.value
    if metric in _COUNTS:
        base, new = getattr(comparison, metric)
        return base, new
    name = "f1" if metric == "agreement" else metric
    return 1.0, getattr(comparison.agreement, name)
