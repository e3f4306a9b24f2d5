"""What a test machine has not: a camera that does as it is told, and models of every kind.

The results are PySDK's own classes; only the accelerator that would have computed them is missing.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dgrec import sample
from dgrec.clock import Clock
from dgrec.errors import DgrecError
from dgrec.format import Metadata, Row
from dgrec.format import metadata as metadata_module
from dgrec.recorder.capture import Capture
from dgrec.recorder.recording import Recording
from dgrec.recorder.sources import Footage, Frame, open_source, parse_source

__all__ = [
    "LABELS",
    "PysdkDouble",
    "ScriptedFrames",
    "Seen",
    "SourceDouble",
    "clip",
    "record",
    "run_length",
]

LABELS = {0: "person", 1: "car", 2: "bicycle"}


class SourceDouble:
    """What sources made for a test have in common: all of `FrameSource` but `read`."""

    end_reason = "finished"
    end_detail = ""
    lost_at_end = 0

    def wait(self, timeout_s: float) -> bool:
        return True

    def take_events(self) -> list[dict[str, Any]]:
        return []

    def get(self, prop: int) -> float:
        return 0.0

    def interrupt(self) -> None:
        pass

    def release(self) -> None:
        pass


class ScriptedFrames(SourceDouble):
    """A source whose frames stand at the given seconds, and which may fail before one of them."""

    def __init__(
        self,
        times: Iterable[float],
        *,
        fails_at: int | None = None,
        error: Exception | None = None,
        dropped_queue: Sequence[int] = (),
        size: tuple[int, int] = (64, 48),
        clock: Clock | None = None,
    ) -> None:
        self._times = list(times)
        self._fails_at = fails_at
        self._error = error
        self._dropped_queue = dropped_queue
        self._size = size
        self._next = 0
        self._clock = clock or Clock()
        self.interrupted = self.released = False

    def read(self) -> Frame | None:
        index = self._next
        if index == self._fails_at:
            assert self._error is not None
            raise self._error
        if index >= len(self._times):
            return None
        self._next += 1
        width, height = self._size
        image = np.full((height, width, 3), index % 256, np.uint8)
        time_s = self._times[index]
        lost = self._dropped_queue[index] if index < len(self._dropped_queue) else 0
        return Frame(
            image, index, time_s, time_s, self._clock.now_ns(), 1000, width, height, 0, 0, lost
        )

    def interrupt(self) -> None:
        self.interrupted = True

    def release(self) -> None:
        self.released = True


def clip(clock: Clock, *, skip: int = 0, loop: bool = False) -> Footage:
    """Return the sample clip from its frame ``skip`` on."""
    source = parse_source("sample")
    reader = open_source(source)
    for _ in range(skip):
        reader.read()
    return Footage(reader, clock, reopen=lambda: open_source(source), loop=loop)


class PysdkDouble:
    """Yields real PySDK results, made from what ``infer(index)`` returns for each frame."""

    def __init__(
        self,
        result_type: str,
        infer: Callable[[int], list[Any]],
        *,
        model_size: tuple[int, int] = (64, 48),
        scale: float = 1.0,
        **settings: Any,
    ) -> None:
        from degirum.postprocessor import class_from_type_string

        width, height = model_size
        self.result_type = result_type
        self._class = class_from_type_string(result_type)
        self._infer = infer
        self._scale = scale
        self._input_shape = [[1, height, width, 3]]
        self._settings = {
            "draw_color": [(255, 0, 0), (0, 255, 0), (0, 0, 255)],
            "line_width": 2,
            "show_labels": True,
            "show_probabilities": True,
            "alpha": "auto",
            "font_scale": 0.5,
            **settings,
        }

    def predict_batch(self, frames: Iterator[Any]) -> Iterator[Any]:
        for index, image in enumerate(frames):
            result = self._class(
                inference_results=self._infer(index),
                conversion=lambda x, y: (x * self._scale, y * self._scale),
                input_image=image,
                frame_info="",
                label_dictionary=dict(LABELS),
                input_shape=self._input_shape,
                **self._settings,
            )
            result.timing = {"CoreInferenceDuration_ms": 1.5 + index}
            yield result

    def describe(self) -> Metadata:
        """Return what `load_model` would have found out about such a model."""
        names = {"draw_color": "color"}
        return {
            "model": {
                "name": "double",
                "result_type": self.result_type,
                "input_shape": self._input_shape,
                "labels": {str(key): label for key, label in LABELS.items()},
            },
            "overlay": {names.get(key, key): value for key, value in self._settings.items()},
        }


def run_length(mask: np.ndarray[Any, Any], x_min: int = 0, y_min: int = 0) -> dict[str, Any]:
    """Return a mask as PySDK's runtime hands it to Python: run lengths, in base64."""
    flat = mask.astype(np.uint32).ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(np.append(starts, flat.size)).astype(np.uint32)
    height, width = mask.shape
    return {
        "x_min": x_min,
        "y_min": y_min,
        "width": width,
        "height": height,
        "data": base64.b64encode(np.concatenate([flat[starts], lengths]).tobytes()).decode(),
    }


@dataclass
class Seen:
    """Copies of what one result was when `predict_stream` yielded it."""

    results: Any
    timing: dict[str, Any]
    info: Any
    attributes: dict[str, Any]
    image: np.ndarray[Any, Any]
    overlay: np.ndarray[Any, Any]

    @classmethod
    def of(cls, result: Any) -> Seen:
        added = {k: v for k, v in vars(result).items() if not k.startswith("_")}
        return cls(
            results=copy.deepcopy(result.results),
            timing=copy.deepcopy(result.timing),
            info=copy.deepcopy(result.info),
            attributes=copy.deepcopy(added),
            image=result.image.copy(),
            overlay=result.image_overlay.copy(),
        )


def record(
    model: Any,
    capture: Capture,
    output: Path,
    described: Metadata,
    *,
    clock: Clock | None = None,
    watchers: tuple[Callable[[Row, Any], None], ...] = (),
    **options: Any,
) -> tuple[list[Seen], Metadata | DgrecError]:
    """Run a `Recording`; return copies of all results, and its metadata or the error it raised."""
    clock = clock or Clock()
    seen: list[Seen] = []
    metadata = {**metadata_module.new(output.stem, clock.now_ns()), **described}
    metadata["source"] = {"given": sample.CLIP.name, "kind": "file"}
    recording = Recording(
        model,
        capture,
        output,
        metadata,
        clock=clock,
        watchers=(lambda _, result: seen.append(Seen.of(result)), *watchers),
        **options,
    )
    try:
        return seen, recording.run()
    except DgrecError as error:
        return seen, error
