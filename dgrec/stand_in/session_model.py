"""The model object of PySDK that gives recorded results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from degirum._ext_zoo_accessor import ExtModelBase
from degirum.exceptions import DegirumException
from degirum.model import Model

from dgrec.analyzers import added_by, recorded_time
from dgrec.errors import ModelError
from dgrec.format import OVERLAY_SETTINGS
from dgrec.overlay import (
    as_pysdk,
    plain_class,
    result_class_of,
    with_inner_results,
)
from dgrec.stand_in.frames import Frames, RecordedFrame, empty_frame
from dgrec.stand_in.matching import Matcher
from dgrec.stand_in.results import Recorded, recorded_class
from dgrec.stand_in.settings import FIXED, LIMITS, Limit, kept, recorded_limits

__all__ = ["SessionModel", "StandInError", "device_of"]

_TIMING = "Timing"


class StandInError(ModelError, DegirumException):  # type: ignore[misc]
    """What PySDK's callers expect, and dgrec's too."""


def device_of(parameters: Any) -> str:
    """Return a model's device, as PySDK writes it: ``TFLITE/CPU``."""
    return f"{parameters.RuntimeAgent}/{parameters.DeviceType}"


class SessionModel(ExtModelBase):  # type: ignore[misc]
    """A model whose results are those of a session.

    Args:
        how: ``match``, ``missing`` and ``pace``: see `dgrec.model`.
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
        self._frames = Frames(Path(parameters.ModelPath))
        metadata = self._frames.metadata
        described = metadata.get("model", {})
        self._matcher = Matcher(
            self._frames.session, how.get("match", "auto"), how.get("missing", "error")
        )
        self._label_dict = {int(key): text for key, text in described.get("labels", {}).items()}
        self._recorded_shape = described.get("input_shape")
        parameters_then = described.get("parameters")
        if not isinstance(parameters_then, dict):
            parameters_then = {}
        self._fixed = {name: parameters_then[name] for name in FIXED if name in parameters_then}
        self._recorded_limits = recorded_limits(parameters_then)
        self._limits: dict[str, float] = dict(self._recorded_limits)
        self._added_by_analyzers = [
            added_by(str(entry.get("class"))) for entry in metadata.get("analyzers", [])
        ]
        self._given: list[RecordedFrame] = []
        self._set_recorded(metadata)

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

    @property
    def device_type(self) -> str:
        """The recorded device; setting it has no effect: no device is needed."""
        device: str = Model.device_type.fget(self)
        return device

    @device_type.setter
    def device_type(self, value: str | list[str]) -> None:
        pass

    def get_inference_results_class(self) -> type:
        """Return the class of results: one that analyzers can be attached to."""
        chosen = self._custom_postprocessor
        if chosen is None:
            chosen = result_class_of(self.get_inference_results_type())
        found: type = chosen if hasattr(chosen, "_dgrec_class") else recorded_class(chosen)
        return found

    def predict_batch(self, data: Any) -> Iterator[Any]:
        """Yield the recorded result of each picture."""
        self._matcher.rewind()
        yield from super().predict_batch(data)

    @contextmanager
    def _predict_handler(self) -> Iterator[None]:
        self._given.clear()
        self._runtime = _Runtime(self)
        forward = self._preprocessor.forward
        self._preprocessor.forward = lambda data: self._taken(data, forward)
        try:
            yield
        finally:
            self._preprocessor.forward = forward
            self._runtime.callback = None

    def _taken(self, data: Any, forward: Any) -> tuple[list[Any], list[dict[str, Any]]]:
        """Return the picture as the model's input: resizing it would be of no use."""
        is_plain = isinstance(data, np.ndarray) and not self._save_model_image
        if is_plain and data.ndim == 3 and self._preprocessor.image_backend == "opencv":
            return [data], [{"image_input": data, "image_result": None}]
        if is_plain and data.ndim != 3:  # a tensor or sound
            return [data], [{}]
        info = forward(data)[1]
        return [info[0].get("image_input")], info

    def _create_postprocessor(self, inference_results: Any, inference_info: Any) -> Any:
        frame = self._given.pop(0)
        info = inference_info["preprocessed_info"][0]
        restored = frame.restored
        info["converter"] = Recorded(restored)
        is_plain = self._custom_postprocessor is None
        if not is_plain:
            self._remove_added(restored)
        with recorded_time(frame.completed_ns):
            result = super()._create_postprocessor(inference_results, inference_info)
        if is_plain:
            result.__class__ = plain_class(type(result)._dgrec_class, result._inference_results)
        return result

    # --- inside ---

    def _result_of(self, picture: Any) -> Any:
        """Return the recorded results of a picture, as a runtime gives them to PySDK."""
        position = self._matcher.find(picture)
        frame = empty_frame() if position is None else self._frames.at(position)
        self._given.append(frame)
        results = with_inner_results(frame.restored.results, {})
        if self._limits != self._recorded_limits and isinstance(results, list):
            by_class = self._fixed.get("output_use_regular_nms") is not False
            chosen = kept(results, self._limits, self._recorded_limits, by_class=by_class)
            results = [results[index] for index in chosen]
        if not self.measure_time:
            frame.restored.timing = {}
        elif isinstance(results, list):
            if not (results and isinstance(results[0], dict)):
                results = [{}, *results]
            results[0][_TIMING] = frame.restored.timing
        return results

    def _remove_added(self, restored: Any) -> None:
        """Remove what analyzers had added: those that are attached now add it again."""
        for keys, attributes in self._added_by_analyzers:
            for name in attributes:
                restored.attributes.pop(name, None)
            for item in restored.results if isinstance(restored.results, list) else ():
                for key in keys if isinstance(item, dict) else ():
                    item.pop(key, None)

    def _set_recorded(self, metadata: Any) -> None:
        overlay = metadata.get("overlay", {})
        for name in OVERLAY_SETTINGS:
            if name in overlay:
                setattr(self, f"_overlay_{name}", as_pysdk(name, overlay[name]))
        described = metadata.get("model", {})
        if described.get("image_backend") == "pil":
            self.image_backend = "pil"
        if fill := overlay.get("fill_color"):
            self.input_letterbox_fill_color = tuple(fill)
        for name, value in (*self._fixed.items(), *self._recorded_limits.items()):
            with suppress(DegirumException, RuntimeError, TypeError, ValueError):  # of the file
                getattr(Model, name).fset(self, value)


def _limit_property(limit: Limit) -> property:
    """Return the property of a setting, which refuses what would need other results."""
    before: Any = getattr(Model, limit.property)

    def write(self: SessionModel, value: Any) -> None:
        recorded = self._recorded_limits.get(limit.property)
        if recorded is not None and limit.loosens(value, recorded):
            raise StandInError(
                f"{limit.property}={value}: the session was recorded at {recorded:g}, and holds "
                "no results beyond it; record it again with that setting"
            )
        before.fset(self, value)
        self._limits[limit.property] = value

    return property(before.fget, write, doc=before.__doc__)


def _fixed_property(name: str) -> property:
    """Return the property of a setting that recorded results cannot be changed by."""
    before: Any = getattr(Model, name)

    def write(self: SessionModel, value: Any) -> None:
        if name in self._fixed and value != self._fixed[name]:
            raise StandInError(
                f"{name}={value}: the session was recorded with {self._fixed[name]}, and its "
                "results cannot be changed to another; record it again with that setting"
            )
        before.fset(self, value)

    return property(before.fget, write, doc=before.__doc__)


for _limit in LIMITS:
    setattr(SessionModel, _limit.property, _limit_property(_limit))
for _name in FIXED:
    setattr(SessionModel, _name, _fixed_property(_name))


class _Runtime:
    """What PySDK takes for the inference engine."""

    def __init__(self, model: SessionModel) -> None:
        self._model = model
        self.callback: Any = model._result_callback

    def predict(self, data: list[Any], info: str) -> None:
        """Give the results of a picture."""
        self.callback(self._model._result_of(data[0]))
