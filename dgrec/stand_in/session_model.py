"""The model object of PySDK that gives recorded results."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from degirum._ext_zoo_accessor import ExtModelBase
from degirum.exceptions import DegirumException
from degirum.model import Model

from dgrec.analyzers import recorded_time
from dgrec.errors import DgrecError, ModelError
from dgrec.format import OVERLAY_SETTINGS, result_values
from dgrec.overlay import as_pysdk, result_class_of, with_inner_results
from dgrec.stand_in.door import HOST
from dgrec.stand_in.frames import Frames, RecordedFrame
from dgrec.stand_in.matching import Matcher
from dgrec.stand_in.recorded_trackers import Trackers
from dgrec.stand_in.results import Recorded, as_recorded, drawn_class, timed_class
from dgrec.stand_in.run import run
from dgrec.stand_in.settings import (
    FIXED,
    LIMITS,
    THRESHOLD,
    Limit,
    kept,
    reports_below_threshold,
)

_PACES = ("fast", "recorded")


class StandInError(ModelError, DegirumException):  # type: ignore[misc]
    """An error that callers of PySDK expect, and callers of dgrec, too."""


def device_of(parameters: Any) -> str:
    """Return a model's device, as PySDK writes it: ``TFLITE/CPU``."""
    return f"{parameters.RuntimeAgent}/{parameters.DeviceType}"


class SessionModel(ExtModelBase):  # type: ignore[misc]
    """A model whose results are those of a session.

    Args:
        how: ``match``, ``missing`` and ``pace``: see `dgrec.model`.

    Raises:
        StandInError: The session cannot stand in for a model, or not that way.
    """

    def __init__(
        self,
        name: str,
        parameters: Any,
        device: str,
        num_devices: int = 1,
        *,
        how: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, parameters, device, num_devices)
        how = how or {}
        self.pace = how.get("pace", "fast")
        if self.pace not in _PACES:
            raise StandInError(f"pace={self.pace!r}: expected {', '.join(_PACES)}")
        try:
            self._frames = Frames(Path(parameters.ModelPath))
            self._matcher = Matcher(
                self._frames.session, how.get("match", "auto"), how.get("missing", "error")
            )
        except DgrecError as error:
            raise StandInError(str(error)) from None
        self._host = HOST  # as PySDK's models of AI servers have it
        self._one_by_one = _OneByOne()
        metadata = self._frames.metadata
        described = metadata.get("model", {})
        self._label_dict = _labels(described)
        self._recorded_shape = described.get("input_shape")
        self._recorded_backend = described.get("image_backend") or "opencv"
        self._is_classifier = described.get("result_type") == "Classification"
        #: Whether the model takes pictures; other inputs are not looked at.
        self.takes_pictures = "Image" in parameters.InputType
        devices = described.get("devices")
        known = devices if isinstance(devices, list) else []
        self._devices = [number for number in known if type(number) is int] or [0]
        recorded = self._frames.parameters
        self._fixed = {name: recorded[name] for name in FIXED if name in recorded}
        #: The limits that the program has set.
        self._limits: dict[str, float] = {}
        self._recorded_classes: set[Any] = set()
        #: The session's entries for the analyzers whose results it has.
        self.recorded_analyzers = self._frames.analyzers
        #: The sessions whose frames it has.
        self._sources = [self._frames]
        self._classes = _Classes()
        self._set_recorded(metadata, recorded)
        # The values that PySDK accepted.
        self._fixed = {
            name: getattr(self, name)
            for name in self._fixed
            if self.takes_pictures or not name.startswith("input_")
        }
        try:
            result_class_of(self.get_inference_results_type())
        except DgrecError as error:
            raise StandInError(f"{parameters.ModelPath}: {error}") from None
        self._overlay_before = self._overlay()

    # --- what PySDK asks for ---

    @property
    def label_dictionary(self) -> dict[int, str]:
        """The recorded model's labels by category id."""
        labels: dict[int, str] = self._label_dict
        return labels

    @property
    def input_shape(self) -> Any:
        """The recorded model's input."""
        return self._recorded_shape or super().input_shape

    @input_shape.setter
    def input_shape(self, value: Any) -> None:
        shapes = list(map(list, value))  # of the first inputs
        if shapes != self.input_shape[: len(shapes)]:
            raise StandInError(self._refusal("input_shape", value, self.input_shape))

    @property
    def device_type(self) -> str:
        """The recorded device; setting it has no effect: no device is needed."""
        device: str = Model.device_type.fget(self)
        return device

    @device_type.setter
    def device_type(self, value: str | list[str]) -> None:
        pass

    @property
    def devices_available(self) -> list[int]:
        """The recorded devices."""
        return list(self._devices)

    @property
    def devices_selected(self) -> list[int]:
        """The recorded devices, or those that were chosen, of which none is needed."""
        return list(self._devices)

    @devices_selected.setter
    def devices_selected(self, value: list[int]) -> None:
        self._devices = list(value)

    @property
    def output_class_set(self) -> list[Any]:
        """Labels or category ids of the results that are yielded; empty: all."""
        chosen: list[Any] = Model.output_class_set.fget(self)
        return chosen

    @output_class_set.setter
    def output_class_set(self, value: Any) -> None:
        before = Model.output_class_set.fget(self)
        Model.output_class_set.fset(self, value)
        recorded, chosen = self._recorded_classes, set(Model.output_class_set.fget(self))
        if recorded and not (chosen and self._ids(chosen) <= self._ids(recorded)):
            Model.output_class_set.fset(self, before)
            raise StandInError(
                f"output_class_set={sorted(chosen)}: the session was recorded with "
                f"{sorted(recorded)}, and holds no other results; record it again without"
            )

    def predict(self, data: Any) -> Any:
        """Return the recorded result of a picture; if found by order, that of the next frame."""
        with self._one_by_one.inside():
            return super().predict(data)

    def _predict_impl(self, sources: Callable[[], Iterator[Any]]) -> Any:
        for name in self._fixed:
            self._check_fixed(name)
        is_next = self._one_by_one.is_inside
        return run(self, self._matcher if is_next else self._matcher.from_the_first(), sources)

    @contextlib.contextmanager
    def _predict_handler(self) -> Iterator[None]:
        yield  # each run has its own

    # --- what a run asks for ---

    @property
    def has_exchanged_colors(self) -> bool:
        """Whether red and blue are exchanged, as in PySDK's other image backend."""
        return bool(self.takes_pictures and self.image_backend != self._recorded_backend)

    def frame_of(self, picture: Any, matcher: Matcher) -> RecordedFrame:
        """Return the frame of a picture, with values of its own.

        Raises:
            DgrecError: It was not recorded, or cannot be read.
        """
        position = matcher.find(picture, has_exchanged_colors=self.has_exchanged_colors)
        if position is None:
            return self._frames.empty(matcher.last)
        return self._frames.at(position)

    def result_of(self, frame: RecordedFrame, info: Mapping[str, Any]) -> Any:
        """Return the result object of a frame."""
        restored = frame.restored
        chosen = self._custom_postprocessor
        trackers = frame.source.trackers
        if chosen is not None:
            trackers.remove_others(restored, trackers.of(chosen))
        results = with_inner_results(restored.results, {})
        if self._limits and isinstance(results, list):
            results = self._kept(results, frame.source.limits)
        # PySDK sets it afterwards, and only for a model that measures time.
        restored.timing = {}
        view = _View(self, restored.described)
        of_its_kind = view.class_of(chosen)
        made, finished = self._classes.of(of_its_kind, trackers)
        view.get_inference_results_class = lambda: made
        preprocessed = info["preprocessed_info"]
        first = preprocessed[0] if isinstance(preprocessed, list) else preprocessed
        first["converter"] = Recorded(restored)
        with recorded_time(frame.completed_ns):
            result = Model._create_postprocessor(view, results, info)
        result._completed_ns = frame.completed_ns
        drawing = frame.source.drawing if chosen is None else frame.source.inner_drawing
        if drawing.has_notifiers and frame.completed_ns is not None:
            result._dgrec_notices = frame.source.notices_until(frame.completed_ns)
        result.__class__ = drawn_class(finished, result._inference_results, drawing)
        return result

    # --- inside ---

    def _check_fixed(self, name: str, *wanted: Any) -> None:
        """Refuse a setting for which the recording has no results."""
        (value,) = wanted or (getattr(self, name),)
        if name in self._fixed and value != self._fixed[name]:
            raise StandInError(self._refusal(name, value, self._fixed[name]))

    @staticmethod
    def _refusal(name: str, value: Any, recorded: Any) -> str:
        return (
            f"{name}={value}: the session was recorded with {recorded}, and its "
            "results cannot be changed to another; record it again with that setting"
        )

    def _beyond(self, limit: Limit, value: Any, recorded: Mapping[str, float]) -> str:
        """Return why a session does not have the results for a limit; "" if it has."""
        own, at = recorded.get(limit.property), ""
        try:
            if own is not None and limit.loosens(value, own):
                at = f"{own:g}"
            elif self._is_classifier and reports_below_threshold(limit, value, recorded):
                at = f"{THRESHOLD.property}={recorded[THRESHOLD.property]:g}"
        except TypeError:  # not a number: PySDK refuses it
            pass
        if not at:
            return ""
        return (
            f"{limit.property}={value}: the session was recorded at {at}, and holds no results "
            "beyond it; record it again with that setting"
        )

    def _kept(self, results: list[Any], recorded: Mapping[str, float]) -> list[Any]:
        """Return the results that pass the settings, where they differ from the recorded ones."""
        by_class = self._fixed.get("output_use_regular_nms") is not False
        chosen = kept(results, {**recorded, **self._limits}, recorded, by_class=by_class)
        return [results[index] for index in chosen]

    def _ids(self, classes: set[Any]) -> set[Any]:
        """Return category ids; labels without one stay as they are."""
        ids = {text: number for number, text in self._label_dict.items()}
        return {ids.get(each, each) for each in classes}

    def _overlay(self) -> dict[str, Any]:
        return {name: getattr(self, f"_overlay_{name}") for name in OVERLAY_SETTINGS}

    def _set_recorded(self, metadata: Any, parameters: Mapping[str, Any]) -> None:
        overlay = metadata.get("overlay", {})
        for name in OVERLAY_SETTINGS:
            if (value := overlay.get(name)) not in (None, []):
                setattr(self, f"_overlay_{name}", as_pysdk(name, value))
        if self.takes_pictures:
            if metadata.get("model", {}).get("image_backend") == "pil":
                self.image_backend = "pil"
            if fill := overlay.get("fill_color"):
                self.input_letterbox_fill_color = tuple(fill)
        chosen = {**self._fixed, **self._frames.limits}
        if (space := parameters.get("input_numpy_colorspace")) is not None:
            chosen["input_numpy_colorspace"] = space
        for name, value in chosen.items():
            # The file may hold any value; PySDK refuses those that are not possible.
            with contextlib.suppress(DegirumException, RuntimeError, TypeError, ValueError):
                getattr(Model, name).fset(self, value)
        result_type = str(metadata.get("model", {}).get("result_type") or "None")
        if self.get_inference_results_type() != result_type:
            self.inference_results_type = result_type
        classes = parameters.get("output_class_set")
        if isinstance(classes, list) and classes:
            with contextlib.suppress(DegirumException, TypeError):
                self.output_class_set = classes
                self._recorded_classes = set(classes)


def _labels(described: Mapping[str, Any]) -> dict[int, str]:
    """Return labels by category id, of the kind that PySDK takes."""
    labels = described.get("labels", {}).items()
    return {int(key): str(text) for key, text in labels if not key.startswith("-")}


class _View:
    """A model as the results of one frame see it; they may be of another kind than the rest."""

    get_inference_results_class: Any

    def __init__(self, model: SessionModel, described: Mapping[str, Any]) -> None:
        self._model = model
        self._described = described.get("model", {})
        if described:
            now, before = model._overlay(), model._overlay_before
            for name, value in described.get("overlay", {}).items():
                is_changed = name in now and now[name] != before[name]  # by the program
                if name in now and value is not None and not is_changed:
                    setattr(self, f"overlay_{name}", as_pysdk(name, value))
            if "labels" in self._described:
                self.label_dictionary = _labels(self._described)
            if "input_shape" in self._described:
                self.input_shape = self._described["input_shape"]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def class_of(self, chosen: Any) -> Any:
        """Return the class of the result.

        Args:
            chosen: The program's own, or one with analyzers; None: PySDK's.
        """
        own_type = self._described.get("result_type")
        if chosen is not None and own_type is None:
            return chosen
        own = result_class_of(own_type or self._model.get_inference_results_type())
        if chosen is None:
            return own
        if result_values.pysdk_class(chosen) is own or "_analyzers" not in vars(chosen):
            return chosen
        from degirum_tools.analyzers import subclass_result_with_analyzers

        return subclass_result_with_analyzers(own, chosen._analyzers)


class _Classes:
    """The last result class, with the class that makes its results and the one they end up with.

    A program makes a class each time it attaches analyzers: only the last one is kept, for each
    session.
    """

    def __init__(self) -> None:
        self._last: dict[int, tuple[Any, tuple[Any, Any]]] = {}

    def of(self, chosen: Any, trackers: Trackers) -> tuple[Any, Any]:
        known, found = self._last.get(id(trackers), (None, (None, None)))
        if known is not chosen:
            has_analyzers = hasattr(chosen, "_analyzers")
            working = trackers.of(chosen).working
            found = as_recorded(working), timed_class(chosen) if has_analyzers else chosen
            self._last[id(trackers)] = chosen, found
        return found


class _OneByOne(threading.local):
    """Knows whether this thread is inside `SessionModel.predict`."""

    is_inside = False

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        self.is_inside = True
        try:
            yield
        finally:
            self.is_inside = False


def _limit_property(limit: Limit) -> property:
    """Return the property of a setting, which refuses values that would need other results."""
    before: Any = getattr(Model, limit.property)

    def write(self: SessionModel, value: Any) -> None:
        reasons = [self._beyond(limit, value, each.limits) for each in self._sources]
        if all(reasons):
            raise StandInError(reasons[0])
        before.fset(self, value)
        self._limits[limit.property] = value

    return property(before.fget, write, doc=before.__doc__)


def _fixed_property(name: str) -> property:
    """Return the property of a setting that cannot be applied to recorded results.

    Settings of the input may be changed, as compound models and programs do to look at them; then
    nothing can be inferred.
    """
    before: Any = getattr(Model, name)

    def write(self: SessionModel, value: Any) -> None:
        if not name.startswith("input_"):
            self._check_fixed(name, value)
        before.fset(self, value)

    return property(before.fget, write, doc=before.__doc__)


for _limit in LIMITS:
    setattr(SessionModel, _limit.property, _limit_property(_limit))
for _name in FIXED:
    setattr(SessionModel, _name, _fixed_property(_name))
