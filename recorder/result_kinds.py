"""Finds results of another kind than the session's metadata describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from dgrec.format import Metadata, result_values
from dgrec.recorder.results import DetectionList, describe_result

#: What decides how a result is drawn, apart from its class and labels.
_settings_of = attrgetter(
    "_overlay_color",
    "_line_width",
    "_show_labels",
    "_show_probabilities",
    "_alpha",
    "_font_scale",
    "_fill_color",
    "_blur",
)
#: More kinds than this are described again for each row.
_MOST_KINDS = 64


@dataclass(frozen=True, slots=True)
class _Kind:
    """Results of one class that are drawn alike."""

    result_class: type | None
    settings: tuple[Any, ...]
    labels: Mapping[Any, Any]
    #: None: the session's metadata describes them.
    described: Metadata | None

    def has(self, labels: Mapping[Any, Any]) -> bool:
        """Return whether the model's own labels are these: PySDK adds further names."""
        return (
            labels is self.labels
            or labels == self.labels
            or _own_labels(labels) == _own_labels(self.labels)
        )

    @property
    def is_class_map(self) -> bool:
        return getattr(self.result_class, "__name__", "") == "SegmentationResults"


class ResultKinds:
    """Recognizes the kinds of results that one session gets.

    Args:
        session_type: The result type in the session's metadata. The first result of this type is
            as the metadata describes it, or as the caller that gave the metadata wants it.
    """

    def __init__(self, session_type: str | None) -> None:
        self._session_type = session_type
        self._is_first = True
        self._kinds: list[_Kind] = []

    def of(self, result: Any) -> _Kind:
        """Return the kind of a result."""
        found = result_values.pysdk_class(type(result))
        if found is None:
            return self._of_list() if isinstance(result, DetectionList) else _AS_THE_SESSION
        settings, labels = _settings_of(result), result._label_dictionary or {}
        for kind in self._kinds:
            if found is kind.result_class and settings == kind.settings and kind.has(labels):
                return kind
        is_of_session = self._is_first and self._session_type in _names(found)
        described = None if is_of_session else describe_result(result)
        kind = _Kind(found, settings, labels, described)
        if is_of_session or len(self._kinds) < _MOST_KINDS:
            self._kinds.append(kind)
        self._is_first = self._is_first and not is_of_session
        return kind

    def _of_list(self) -> _Kind:
        """Return the kind of a list of detections, which are drawn as the session's results."""
        is_drawn = self._session_type is not None and self._session_type in _boxes()
        return _AS_THE_SESSION if is_drawn else _DETECTIONS


_AS_THE_SESSION = _Kind(None, (), {}, None)
_DETECTIONS = _Kind(None, (), {}, {"model": {"result_type": "Detection"}})


def _names(result_class: Any) -> list[str]:
    """Return PySDK's names of a result class."""
    names = result_class.supported_types()
    return [names] if isinstance(names, str) else list(names)


def _boxes() -> list[str]:
    from degirum.postprocessor import DetectionResults

    return _names(DetectionResults)


def _own_labels(labels: Mapping[Any, Any]) -> dict[int, Any]:
    return {key: name for key, name in labels.items() if isinstance(key, int)}
