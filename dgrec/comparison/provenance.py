"""Differences of recordings in metadata: model, source, versions, options, host."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dgrec.format import Metadata

#: In the order in which they are shown: the likelier reason first.
_GROUPS: Final = ("model", "source", "versions", "options", "host", "overlay")
#: A file's place says nothing about its content, which the digest identifies.
_UNTOLD: Final = ("source.path", "source.relative", "source.given", "source.name", "source.file")


@dataclass(frozen=True)
class Difference:
    """A fact of the metadata that is not the same on both sides.

    Args:
        key: Path in the metadata: ``model.device``, ``versions.degirum``.
        base: The different values among the sessions of BASE; None where the key is absent.
    """

    key: str
    base: tuple[Any, ...]
    new: tuple[Any, ...]


def differences(base: Sequence[Metadata], new: Sequence[Metadata]) -> tuple[Difference, ...]:
    """Return every fact that differs between the sides, or among the sessions of one side."""
    sides = [[dict(_facts(metadata)) for metadata in side] for side in (base, new)]
    keys = list(dict.fromkeys(key for side in sides for facts in side for key in facts))
    keys.sort(key=lambda key: _GROUPS.index(key.split(".")[0]))
    same_file = same_footage(base, new)
    found = []
    for key in keys:
        if (same_file and key in _UNTOLD) or _is_repeated(key, keys):
            continue
        values = [_distinct([facts.get(key) for facts in side]) for side in sides]
        if values[0] != values[1] or len(values[0]) > 1:
            found.append(Difference(key, *values))
    return tuple(found)


def _is_repeated(key: str, keys: Sequence[str]) -> bool:
    """Return whether a requested property is also there as the parameter that took effect."""
    asked = "model.properties."
    return key.startswith(asked) and f"model.parameters.{key.removeprefix(asked)}" in keys


def same_footage(base: Sequence[Metadata], new: Sequence[Metadata]) -> bool:
    """Return whether all sessions are known to have seen the very same file."""
    digests = {_source(metadata).get("sha256") for metadata in (*base, *new)}
    return len(digests) == 1 and None not in digests


def _source(metadata: Metadata) -> Mapping[str, Any]:
    source: Mapping[str, Any] = metadata.get("source", {})
    return source


def _facts(metadata: Metadata) -> Iterator[tuple[str, Any]]:
    for group in _GROUPS:
        yield from _leaves(group, metadata.get(group))


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        # A table of labels is one fact, and so are the settings that a runtime reports as a list.
        if key == "model.labels":
            yield key, value
            return
        for name, item in value.items():
            yield from _leaves(f"{key}.{name}", item)
    elif value is not None:
        yield key, value


def _distinct(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return the different values, in an order that does not depend on that of the sessions."""
    by_text = {json.dumps(value, sort_keys=True, default=str): value for value in values}
    return tuple(by_text[text] for text in sorted(by_text))
