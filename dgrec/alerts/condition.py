"""Conditions as they are written: comparisons, joined by and, or, not and ( ).

The caller says what can be compared (`Grammar`). A comparison with an unknown value does not hold,
nor does its opposite by ``not``: that is SQL's three-valued logic.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from dgrec.errors import ConfigError

_V = TypeVar("_V", bound=Hashable)

#: Characters: nobody writes a longer condition by hand.
LONGEST: Final = 1000

_COMPARISONS: Final[dict[type, Callable[[Any, Any], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda one, several: one in several,
    ast.NotIn: lambda one, several: one not in several,
}
#: The comparisons of texts.
_OF_TEXTS: Final = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)


@dataclass(frozen=True)
class Grammar(Generic[_V]):
    """The values that can be compared.

    Args:
        option: The option that has the conditions, for messages, such as ``--alert crowd``.
        value: Returns the value that an expression stands for; None: it stands for none.
        hint: Which values there are, for messages.
        example: A comparison, for messages.
        texts: The values that are texts; the others are numbers.
    """

    option: str
    value: Callable[[ast.expr], _V | None]
    hint: str
    example: str
    texts: Collection[_V] = ()


@dataclass(frozen=True)
class Condition(Generic[_V]):
    """A parsed condition.

    Args:
        text: As it was written.
        values: The values that it asks for.
    """

    text: str
    values: frozenset[_V]
    _grammar: Grammar[_V] = field(repr=False, compare=False)
    _node: ast.expr = field(repr=False, compare=False)

    def holds(self, values: Mapping[_V, float | str | None]) -> bool:
        """Return whether it holds, given its values (None: unknown); False if that is unknown."""
        return self._truth(self._node, values) is True

    def _truth(self, node: ast.expr, values: Mapping[_V, float | str | None]) -> bool | None:
        if isinstance(node, ast.BoolOp):
            stops = isinstance(node.op, ast.Or)
            known: bool | None = not stops
            for each in node.values:
                truth = self._truth(each, values)
                if truth is stops:
                    return stops
                if truth is None:
                    known = None
            return known
        if isinstance(node, ast.UnaryOp):
            truth = self._truth(node.operand, values)
            return None if truth is None else not truth
        assert isinstance(node, ast.Compare)
        left = self._operand(node.left, values)
        result: bool | None = True
        for op, each in zip(node.ops, node.comparators, strict=True):
            right = self._operand(each, values)
            if left is None or right is None:
                result = None
            elif not _COMPARISONS[type(op)](left, right):
                return False
            left = right
        return result

    def _operand(self, node: ast.expr, values: Mapping[_V, float | str | None]) -> Any:
        if isinstance(node, ast.Tuple | ast.List):
            return [_constant(each) for each in node.elts]
        constant = _constant(node)
        if constant is not None:
            return constant
        value = self._grammar.value(node)
        assert value is not None
        return values[value]


def parse_condition(text: str, grammar: Grammar[_V]) -> Condition[_V]:
    """Parse a condition.

    Raises:
        ConfigError: It is not a condition; the message says why.
    """
    if len(text) > LONGEST:
        raise ConfigError(f"{grammar.option}: is longer than {LONGEST:,} characters")
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ConfigError(
            f"{grammar.option}: {text!r} is not a condition, such as {grammar.example}"
        ) from None
    values: set[_V] = set()
    _check(node, grammar, values)
    return Condition(text, frozenset(values), grammar, node)


def _check(node: ast.expr, grammar: Grammar[_V], values: set[_V]) -> None:
    if isinstance(node, ast.BoolOp):
        for each in node.values:
            _check(each, grammar, values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check(node.operand, grammar, values)
    elif isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
        _check_comparison(node, grammar, values)
    else:
        raise ConfigError(
            f"{grammar.option}: {_written(node)} is not a comparison, such as {grammar.example}"
        )


def _check_comparison(node: ast.Compare, grammar: Grammar[_V], values: set[_V]) -> None:
    """Check that numbers are compared with numbers, and texts with texts."""
    last = node.comparators[-1]
    if len(node.ops) == 1 and isinstance(node.ops[0], ast.In | ast.NotIn):
        fits = isinstance(last, ast.Tuple | ast.List) and {
            *map(type, map(_constant, last.elts))
        } <= {str}
        operands = [node.left]
    else:
        fits = not any(isinstance(op, ast.In | ast.NotIn) for op in node.ops)
        operands = [node.left, *node.comparators]
    kinds = {_kind(each, grammar, values) for each in operands} if fits else set()
    if kinds == {str}:
        fits = all(isinstance(op, _OF_TEXTS) for op in node.ops)
    elif kinds == {float}:
        fits = not isinstance(node.ops[0], ast.In | ast.NotIn)
    else:
        fits = False
    if not fits:
        raise ConfigError(
            f"{grammar.option}: {_written(node)} is not a comparison, such as {grammar.example}"
        )


def _kind(node: ast.expr, grammar: Grammar[_V], values: set[_V]) -> type:
    constant = _constant(node)
    if constant is not None and (grammar.texts or not isinstance(constant, str)):
        return type(constant)
    value = None if constant is not None else grammar.value(node)
    if value is None:
        raise ConfigError(f"{grammar.option}: {_written(node)} is not a value; {grammar.hint}")
    values.add(value)
    return str if value in grammar.texts else float


def _constant(node: ast.expr) -> float | str | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _constant(node.operand)
        return -number if isinstance(number, float) else None
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return node.value
        if type(node.value) in (int, float):
            try:
                return float(node.value)  # type: ignore[arg-type]
            except OverflowError:
                return None
    return None


def _written(node: ast.expr) -> str:
    try:
        return repr(ast.unparse(node))[:80]
    except (RecursionError, ValueError):
        return "this"
