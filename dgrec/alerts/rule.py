"""Rules of alerts, as they are written.

    rule        NAME=CONDITION [for TIME] | NAME=missing TIME
    CONDITION   comparisons of numbers, joined by and, or, not and ( )
    number      1.5, or a value: count('person'), count(), best('person'), latency_ms, inference_ms,
                fps, latency_p95_ms, ...

A comparison with an unknown value (a latency that is not known, the best score without a detection)
does not hold, nor does its opposite by ``not``: see `Condition`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dgrec.alerts.condition import LONGEST, Condition, Grammar, parse_condition
from dgrec.errors import ConfigError
from dgrec.format import STAGE_KEYS
from dgrec.units import parse_time

#: Numbers of a row.
ROW_VALUES: Final = (
    "latency_ms",
    "read_ms",
    *STAGE_KEYS,
    "dropped_before",
    "skipped_before",
)
#: Values of one frame, with the label of what is counted; without one: of all detections.
_FUNCTIONS: Final = ("count", "best")
#: Seconds of a window of time, which ends with the frame.
WINDOW_S: Final = 10
_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

_NAME: Final = re.compile(r"[\w][\w .-]{0,60}\Z")
_MISSING: Final = re.compile(r"missing\s+(?P<time>\S+)\Z")
_FOR: Final = re.compile(r"(?P<condition>.*\S)\s+for\s+(?P<time>\S+)\Z", re.DOTALL)


def window_values() -> dict[str, tuple[str, float]]:
    """Return the values of a window by their names: (value of its rows, quantile)."""
    return {
        f"{value.removesuffix('_ms')}_{name}_ms": (value, quantile)
        for value in ROW_VALUES
        if value.endswith("_ms")
        for name, quantile in _QUANTILES.items()
    }


_WINDOW_VALUES: Final = window_values()
_HINT: Final = (
    "there are count('LABEL'), best('LABEL'), "
    f"{', '.join((*ROW_VALUES[:4], 'fps', 'latency_p95_ms'))} and more (docs/alerts.md)"
)


@dataclass(frozen=True)
class Value:
    """A value that a rule asks for.

    Args:
        name: A function or a name of the grammar.
        label: The label that a function counts; None: any.
    """

    name: str
    label: str | None = None


#: Gives the value of each `Value`; None: unknown.
Values = Mapping[Value, float | None]


@dataclass(frozen=True)
class Rule:
    """A parsed rule.

    Args:
        name: Of the alert.
        text: As it was written.
        lasting_s: How long its condition has to hold.
        missing_s: How long no frame may come; 0: it has a condition.

        values: The values that its condition asks for.
    """

    name: str
    text: str
    lasting_s: float
    missing_s: float
    values: frozenset[Value] = frozenset()
    _condition: Condition[Value] | None = None

    @property
    def labels(self) -> frozenset[str]:
        """The labels that it counts."""
        return frozenset(value.label for value in self.values if value.label is not None)

    def holds(self, values: Values) -> bool:
        """Return whether the condition holds; False if that is unknown."""
        return self._condition is not None and self._condition.holds(values)


def parse_rule(text: str) -> Rule:
    """Parse a rule.

    Raises:
        ConfigError: It is not a rule; the message says why.

    Example:
        >>> rule = parse_rule("crowd=count('person') >= 3 for 2s")
        >>> rule.name, rule.lasting_s
        ('crowd', 2.0)
    """
    name, equals, rest = text.partition("=")
    name, rest = name.strip(), rest.strip()
    if not equals or not _NAME.match(name) or not rest or rest.startswith("="):
        raise ConfigError(
            f"--alert {text!r}: write NAME=CONDITION, such as \"crowd=count('person') >= 3 for 2s\""
            ", or name a file of events (.yaml)"
        )
    if len(rest) > LONGEST:
        raise ConfigError(f"--alert {name}: is longer than {LONGEST:,} characters")
    if match := _MISSING.match(rest):
        return Rule(name, rest, 0.0, _time(name, match["time"]))
    lasting_s, condition = 0.0, rest
    if match := _FOR.match(rest):
        condition, lasting_s = match["condition"], _time(name, match["time"])
    grammar = Grammar(f"--alert {name}", _value, _HINT, "count('car') > 0")
    parsed = parse_condition(condition, grammar)
    return Rule(name, rest, lasting_s, 0.0, parsed.values, parsed)


def _time(name: str, text: str) -> float:
    try:
        seconds = parse_time(text)
    except ConfigError as error:
        raise ConfigError(f"--alert {name}: {error}") from None
    if not seconds:
        raise ConfigError(f"--alert {name}: the time must be more than 0, not {text}")
    return seconds


def _value(node: ast.expr) -> Value | None:
    if isinstance(node, ast.Name):
        known = (*ROW_VALUES, "fps", *_WINDOW_VALUES)
        return Value(node.id) if node.id in known else None
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.keywords:
        return None
    if node.func.id not in _FUNCTIONS or len(node.args) > 1:
        return None
    if not node.args:
        return Value(node.func.id)
    label = node.args[0]
    if isinstance(label, ast.Constant) and isinstance(label.value, str):
        return Value(node.func.id, label.value)
    return None
