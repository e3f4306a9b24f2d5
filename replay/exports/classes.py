"""Numbers for labels, as training data needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Higher ids of a model's labels are ignored.
_MOST = 100_000


class Classes:
    """The classes of an export: those of the session's model, then any others as they come.

    Detections of one label are of one class, whatever their ids: each model in a compound model
    numbers its own classes.

    Args:
        metadata: The session's.
        contiguous: Whether numbers count from 0 without gaps. Otherwise they are the model's where
            it has them, and else the ids of the detections.
    """

    def __init__(self, metadata: Mapping[str, Any], *, contiguous: bool) -> None:
        labels = metadata.get("model", {}).get("labels", {})
        known = sorted(
            (int(key), str(label).encode("utf-8", "backslashreplace").decode("utf-8"))
            for key, label in labels.items()
            if str(key).isdecimal() and str(key).isascii() and len(str(key)) < 8
        )
        self._is_contiguous = contiguous
        self._numbers: dict[str, int] = {}
        for number, label in known:
            if number < _MOST and label not in self._numbers:
                self._numbers[label] = len(self._numbers) if contiguous else number

    def number(self, label: str | None, category_id: int | None) -> int:
        """Return the number of a detection's class."""
        name = self.name(label, category_id)
        found = self._numbers.get(name)
        if found is None:
            found = self._new_number(category_id)
            self._numbers[name] = found
        return found

    def _new_number(self, category_id: int | None) -> int:
        """Return the number of a class that the model does not name: its id, if that is free."""
        numbers = self._numbers.values()
        if self._is_contiguous or category_id is None or not 0 <= category_id < _MOST:
            return max(numbers, default=-1) + 1
        return max(numbers) + 1 if category_id in numbers else category_id

    @staticmethod
    def name(label: str | None, category_id: int | None) -> str:
        """Return the name of a detection's class."""
        if label is not None:
            return label
        return "object" if category_id is None else f"class {category_id}"

    @property
    def names(self) -> dict[int, str]:
        """The names of all classes so far by their numbers, ascending."""
        return dict(sorted((number, name) for name, number in self._numbers.items()))
