"""Stand-ins for objects of classes that dgrec does not import: readable, equal in value.

dgrec never imports or builds a class that a file names. Each class here is a plain container with
the names, values and text of what was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class RecordedObject:
    """An object whose class dgrec does not rebuild, such as a line counter's totals.

    `to_dict` returns its state when it was recorded; the items of a dictionary can also be read as
    attributes. It is equal to any object whose ``to_dict()`` returns the same.
    """

    def __init__(self, class_name: str, state: Any) -> None:
        self._class_name = class_name
        self._state = state

    def to_dict(self) -> Any:
        return self._state

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__.get("_state")
        if isinstance(state, dict) and name in state:
            return state[name]
        raise _no_attribute(self, name)

    def __eq__(self, other: object) -> bool:
        to_dict = getattr(other, "to_dict", None)
        if not callable(to_dict):
            return NotImplemented
        return _are_equal(self._state, to_dict())

    def __hash__(self) -> int:
        # The state may hold lists; a set of such objects must still come back as a set.
        return hash(RecordedObject)

    def __repr__(self) -> str:
        return f"<recorded {self._class_name}: {self._state!r}>"


class RecordedTuple(tuple[Any, ...]):
    """A named tuple: its items can be read by name, and it is equal to the tuple of them."""

    _class_name: str
    _fields: tuple[str, ...]

    @classmethod
    def of(cls, class_name: str, fields: Sequence[str], values: Sequence[Any]) -> RecordedTuple:
        """Return the tuple of ``values``, which have these names."""
        made = cls(values)
        made._class_name, made._fields = class_name, tuple(fields)
        return made

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("_fields", ())
        if name in fields:
            return self[fields.index(name)]
        raise AttributeError(f"recorded tuple has no attribute {name!r}")

    def __reduce__(self) -> Any:
        return RecordedTuple.of, (self._class_name, self._fields, tuple(self))

    def __repr__(self) -> str:
        items = ", ".join(f"{key}={value!r}" for key, value in self._asdict().items())
        return f"{_short(self._class_name)}({items})"


class RecordedEnum:
    """A member of an enumeration: equal to the member that was recorded."""

    _class_name: str
    _text: str
    name: str | None
    value: Any

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RecordedEnum):
            theirs = other._class_name
        else:
            theirs = f"{type(other).__module__}.{type(other).__qualname__}"
        return (
            theirs == self._class_name
            and getattr(other, "name", None) == self.name
            and _are_equal(self.value, getattr(other, "value", None))
        )

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        name = f".{self.name}" if self.name is not None else ""
        return f"<{_short(self._class_name)}{name}: {self.value!r}>"

    def __str__(self) -> str:
        return self._text


class _RecordedInt(int):
    """A member of an enumeration of integers, which is an integer as well."""

    _class_name: str
    _text: str
    name: str | None
    value: int
    __repr__ = RecordedEnum.__repr__
    __str__ = RecordedEnum.__str__


class _RecordedStr(str):
    """A member of an enumeration of texts, which is a text as well."""

    _class_name: str
    _text: str
    name: str | None
    value: str
    __repr__ = RecordedEnum.__repr__
    __str__ = RecordedEnum.__str__


def enum_member(class_name: str, name: str | None, value: Any, text: str, is_plain: bool) -> Any:
    """Return a stand-in for a member of an enumeration.

    Args:
        text: The member's ``str()``.
        is_plain: Whether the member is an integer or a text as well, as with ``enum.IntEnum``.
    """
    member: Any
    if is_plain and type(value) is int:
        member = _RecordedInt(value)
    elif is_plain and type(value) is str:
        member = _RecordedStr(value)
    else:
        member = RecordedEnum()
    member._class_name, member._text = class_name, text
    member.name, member.value = name, value
    return member


class InnerResult:
    """A PySDK result inside of another: ``extra_results`` of a detection, or in a frame's info.

    It has ``results``, ``timing``, ``info`` and what was added to it, and no pixels. It is equal to
    any result with the same results, timing and type.

    Args:
        class_name: The class of the result, which may be one of the program's.
        described: The ``model`` and ``overlay`` that decide how it is drawn.
        conversion, label_hashes: As `dgrec.format.RestoredFrame` has them.
    """

    def __init__(
        self,
        class_name: str,
        described: Mapping[str, Any],
        results: Any,
        timing: dict[str, Any],
        info: Any,
        attributes: dict[str, Any],
        conversion: tuple[float, float, float, float] | None = None,
        label_hashes: Mapping[str, int] | None = None,
    ) -> None:
        self._class_name = class_name
        self._described = described
        self.results = results
        self.timing = timing
        self.info = info
        self.attributes = attributes
        self.conversion = conversion
        self.label_hashes = label_hashes or {}

    def __getattr__(self, name: str) -> Any:
        attributes = self.__dict__.get("attributes", {})
        if name in attributes:
            return attributes[name]
        raise _no_attribute(self, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, InnerResult) and not is_result(other):
            return NotImplemented
        theirs: Any = other
        return _are_equal([self.results, self.timing], [theirs.results, theirs.timing])

    __hash__ = RecordedObject.__hash__

    def __repr__(self) -> str:
        return f"<recorded {self._class_name}: {self.results!r}>"


class RecordedMeta:
    """The ``StreamMeta`` of a graph of gizmos: what they noted of a frame, by their tags."""

    def __init__(self, items: list[Any], tags: dict[str, list[int]]) -> None:
        self._meta_list = items
        self._tags = tags

    def find(self, tag: str) -> list[Any]:
        """Return all that was noted under a tag, in order."""
        return [self._meta_list[index] for index in self._tags.get(tag, ())]

    def find_last(self, tag: str) -> Any:
        """Return what was noted last under a tag; None if nothing was."""
        return next(reversed(self.find(tag)), None)

    def get(self, index: int) -> Any:
        """Return what was noted as number ``index``."""
        return self._meta_list[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RecordedMeta) and not is_stream_meta(other):
            return NotImplemented
        theirs: Any = other
        return self._tags == theirs._tags and _are_equal(self._meta_list, theirs._meta_list)

    __hash__ = RecordedObject.__hash__

    def __repr__(self) -> str:
        return f"<recorded StreamMeta: {self._meta_list!r}, tags {self._tags!r}>"


def is_result(value: Any) -> bool:
    """Return whether this is a result of PySDK, or of a class derived from one."""
    names = getattr(value, "__dict__", None)
    return isinstance(names, dict) and "_inference_results" in names and "timing" in names


def is_stream_meta(value: Any) -> bool:
    """Return whether this is a ``StreamMeta`` of degirum_tools."""
    names = getattr(value, "__dict__", None)
    return isinstance(names, dict) and {"_meta_list", "_tags"} <= names.keys()


def _are_equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    # Comparing arrays gives an array; some texts and numbers cannot be compared.
    except (ArithmeticError, TypeError, ValueError):
        from dgrec.format.json_values import dumps

        return dumps(one) == dumps(other)


def _no_attribute(value: object, name: str) -> AttributeError:
    # While it is copied or unpickled, it has no attributes at all.
    class_name = vars(value).get("_class_name", type(value).__name__)
    return AttributeError(f"recorded {class_name!r} has no attribute {name!r}")


def _short(class_name: str) -> str:
    return class_name.rpartition(".")[2]
