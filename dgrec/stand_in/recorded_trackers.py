"""Trackers that ran while a session was recorded: their results stay.

A tracker replaces the model's boxes by smoothed ones. Run again on these, it would smooth them a
second time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dgrec.analyzers import added_by, class_of, describe, remove_added

#: Analyzers that change what the model gave.
_CHANGING = ("degirum_tools.ObjectTracker",)


@dataclass(frozen=True)
class Begun:
    """The work that is left for the analyzers of a result class.

    Args:
        working: A class with the analyzers that have to run.
        names: Names of the recorded analyzers whose results stay.
    """

    working: Any
    names: frozenset[str] = frozenset()


@dataclass
class Trackers:
    """The trackers of a recording.

    Args:
        recorded: The ``analyzers`` of its metadata.
        inner: Those among them whose results always stay.
    """

    recorded: Sequence[Mapping[str, Any]]
    inner: Sequence[Mapping[str, Any]] = ()
    _last: tuple[Any, Begun] = field(default=(None, Begun(None)), init=False)

    def of(self, chosen: Any) -> Begun:
        """Return which analyzers of a result class have to run.

        Args:
            chosen: The class that the program has set; analyzers are attached by setting one.
        """
        known, begun = self._last
        if known is not chosen:
            begun = self._begun(chosen)
            self._last = chosen, begun
        return begun

    def remove_others(self, restored: Any, begun: Begun) -> None:
        """Remove from a frame what all other analyzers added, so that those attached begin anew."""
        kept = {*begun.names, *(str(entry.get("class")) for entry in self.inner)}
        stays = {name for each in kept for name in added_by(each)[1]}
        for name in set(restored.attributes) - stays:
            del restored.attributes[name]
        ran = [str(entry.get("class")) for entry in self.recorded]
        remove_added(restored.results, {}, [name for name in ran if name not in kept])

    def _begun(self, chosen: Any) -> Begun:
        attached = list(vars(chosen).get("_analyzers", ()))
        stays = [each for each in attached if self._ran(each)]
        if not stays:
            return Begun(chosen)
        working = chosen.__mro__[1]  # without analyzers
        if others := [each for each in attached if not any(each is one for one in stays)]:
            from degirum_tools.analyzers import subclass_result_with_analyzers

            working = subclass_result_with_analyzers(working, others)
        return Begun(working, frozenset(map(class_of, stays)))

    def _ran(self, analyzer: Any) -> bool:
        """Return whether an analyzer with these settings changed the recorded results."""
        if class_of(analyzer) not in _CHANGING:
            return False
        said = json.loads(json.dumps(describe([analyzer])[0]))
        return any(said == dict(entry) for entry in self.recorded)
