"""Conditions on a comparison, for CI: ``latency_p95_ms > +10% and > +2ms``.

::

    condition  = all-of { "or" all-of }
    all-of     = clause { "and" clause }
    clause     = [ metric ] ( ">" | ">=" | "<" | "<=" ) number
    number     = [ "+" | "-" ] digits [ unit ]

A number with a sign is a change from BASE to NEW: in per cent of BASE (``+10%``) or in the metric's
own unit (``+2ms``). A number without one is the value of NEW (``> 50ms``, ``agreement < 0.99``). A
clause without a metric is about the metric of the clause before it.

A change counts where it is told from chance: the change that was measured must lie beyond the
number *and* be significant (Holm, over all rows). So a run that happened to be slow does not fail a
build; `Outcome.doubtful` names such clauses. What was not measured, or in too few frames to have an
interval, is neither: `Outcome.problem`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dgrec.comparison.comparison import METRICS, Comparison, Row
from dgrec.errors import ConfigError

__all__ = ["Clause", "Limit", "Outcome", "parse_limit"]

_TOKEN = re.compile(
    r"\s*(?:(?P<word>[A-Za-z_]\w*)|(?P<compare>[<>]=?)"
    r"|(?P<number>[+-]?\d+(?:\.\d+)?)\s*(?P<unit>%|frames/s|1/min|(?!(?:and|or)\b)[a-z]+)?)",
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
#: Metrics that are no row, with their units.
_OF_AGREEMENT: Final = ("agreement", "precision", "recall", "mean_iou")
_OTHERS: Final = {"dropped": "frames", **dict.fromkeys(_OF_AGREEMENT, "")}


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
    """Whether a condition holds, which is to say: whether the comparison fails it."""

    holds: bool
    #: Clauses beyond their numbers by what may be chance.
    doubtful: tuple[str, ...] = ()
    #: Why it cannot be told, if it does not hold anyway.
    problem: str | None = None


@dataclass(frozen=True)
class Limit:
    """A condition: at least one group of clauses of which all hold."""

    text: str
    groups: tuple[tuple[Clause, ...], ...]

    def check(self, comparison: Comparison) -> Outcome:
        """Return whether the condition holds."""
        doubtful: list[str] = []
        problems: list[str] = []
        holds = False
        for group in self.groups:
            states = [_state(clause, comparison) for clause in group]
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


def parse_limit(text: str) -> Limit:
    """Return the condition that ``text`` is.

    Raises:
        ConfigError: It is none; the message says what was expected, and where.
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
            raise ConfigError(
                f"{self.text!r}: per cent are of a change, which has a sign: write +{number}% "
                f"(or -{number}%)"
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
        raise ConfigError(f"{metric!r} is no metric; there are {', '.join(units)}")
    return units[metric]


@dataclass(frozen=True)
class _State:
    """Whether a value is beyond a clause's number, or for all that is known may be."""

    is_beyond: bool
    doubt: str | None = None
    problem: str | None = None


def _state(clause: Clause, comparison: Comparison) -> _State:
    row = next((row for row in comparison.rows if row.metric == clause.metric), None)
    if row is None and clause.metric in _OF_AGREEMENT and comparison.agreement is None:
        return _State(
            True,
            problem=f"{clause.text}: detections are compared only where there is one session a "
            "side, and both saw the same file",
        )
    base, new = _values(clause.metric, comparison, row)
    if new is None or (clause.is_change and base is None):
        # A condition that cannot be looked at must not pass for one that was met.
        reason = (row.reason if row is not None else None) or "there is no such value"
        return _State(True, problem=f"{clause.text}: cannot be told: {reason}")
    compare = _COMPARE[clause.compare]
    if not clause.is_change or base is None:
        return _State(compare(new, clause.number))
    changed = new - base
    if clause.is_percent and changed:
        # From nothing, any more is more than any per cent.
        changed = 100 * changed / base if base else changed * math.inf
    is_beyond = compare(changed, clause.number)
    if row is None or row.is_significant or not is_beyond:
        return _State(is_beyond)
    reason = row.reason or "the change is too small to tell from chance"
    unit = "%" if clause.is_percent else ""
    return _State(True, doubt=f"{clause.text}: {changed:+.3g}{unit}, but {reason}")


def _values(
    metric: str, comparison: Comparison, row: Row | None
) -> tuple[float | None, float | None]:
    """Return a metric of BASE and of NEW; BASE agrees with itself."""
    if row is not None:
        return row.base.value, row.new.value
    if metric == "dropped":
        return comparison.dropped
    agreement = comparison.agreement
    return 1.0, agreement.f1 if agreement and metric == "agreement" else getattr(
        agreement, metric, None
    )
