"""`RecordedResult`: a recorded frame with the interface of a PySDK result."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dgrec.analyzers import drawing_of, recorded_time, with_degirum_counts
from dgrec.errors import OverlayError, VideoError
from dgrec.format import Metadata, RestoredFrame, restore, utc_ns
from dgrec.overlay import as_pil, image_overlay

__all__ = ["OVERLAY_SETTINGS", "RecordedResult"]

#: Overlay settings of PySDK's models, without their prefix ``overlay_``, and the argument of a
#: result's constructor for each.
OVERLAY_SETTINGS = {
    "color": "draw_color",
    "line_width": "line_width",
    "show_labels": "show_labels",
    "show_probabilities": "show_probabilities",
    "alpha": "alpha",
    "blur": "blur",
    "font_scale": "font_scale",
}


class RecordedResult:
    """One frame of a session, equal to what `predict_stream` yielded for it.

    ``results``, ``timing``, ``info`` and whatever analyzers had added (``trails``, ``zone_counts``)
    are read as from the PySDK object. The row's own columns are in ``row``. A session holds no
    pixels: only a frame made by `with_image` has ``image`` and ``image_overlay``.

    Example:
        >>> import dgrec
        >>> with dgrec.open("session.parquet") as session:
        ...     result = session[240]
        >>> [found["label"] for found in result.results]
        ['face', 'face', 'face']
    """

    def __init__(self, row: Mapping[str, Any], metadata: Metadata) -> None:
        self.row = row
        self._metadata = metadata
        self._image: np.ndarray[Any, Any] | None = None
        self._labels: dict[Any, Any] | None = None
        self._restored: RestoredFrame = restore(row)

    @property
    def results(self) -> Any:
        """The model's results: for detection models a list of dictionaries."""
        return self._restored.results

    @property
    def timing(self) -> dict[str, Any]:
        """Durations and sizes that the runtime reported, by its own names."""
        return self._restored.timing

    @property
    def info(self) -> Any:
        """Frame information that PySDK passed through; "" from `predict_stream`."""
        return self._restored.info

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes that analyzers had added to the result object."""
        return self._restored.attributes

    @property
    def sampled_conversion(self) -> tuple[float, float, float, float] | None:
        """The model-to-image conversion, as far as the overlay of a class map uses it."""
        return self._restored.conversion

    @property
    def frame(self) -> int:
        """Number of the frame in the session, from 0."""
        return int(self.row["frame"])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frame in pixels; 0, 0 if unknown."""
        return self.row["width"] or 0, self.row["height"] or 0

    @property
    def captured_at(self) -> dt.datetime | None:
        """When the frame had been read (UTC); None if unknown."""
        stamp: dt.datetime | None = self.row["captured_at"]
        return stamp

    @property
    def completed_ns(self) -> int | None:
        """When the result came out, in nanoseconds since 1970; None if unknown."""
        stamp = self.row["completed_at"] or self.row["captured_at"]
        return None if stamp is None else utc_ns(stamp)

    def __getattr__(self, name: str) -> Any:
        restored = self.__dict__.get("_restored")
        if restored is not None and name in restored.attributes:
            return restored.attributes[name]
        if name in ("image", "image_overlay"):
            raise AttributeError(
                f"frame {self.frame} has no {name!r}: a session holds no pixels; `with "
                "session.pixels() as pixels: for result in pixels.results(session)` reads both "
                "from the video, and result.overlay(picture) draws on a picture"
            )
        raise AttributeError(f"frame has no attribute {name!r}, nor did the recorded result")

    def __repr__(self) -> str:
        try:
            return f"<frame {self.frame}: {self.results!r}>"
        except ValueError:  # an integer with more digits than Python writes
            return f"<frame {self.frame}: {len(self.results)} results>"

    def keep(self, indices: Sequence[int]) -> RecordedResult:
        """Return the same frame with only the results at ``indices``, in that order, and trails.

        Results that are not a list (a few types that no model of PySDK yields) stay whole.
        """
        if not isinstance(self.results, list):
            return self
        kept = copy.copy(self)
        detections = self.row["detections"]
        kept.row = {**self.row, "detections": [detections[index] for index in indices]}
        results = [self.results[index] for index in indices]
        attributes = self.attributes
        if isinstance(trails := attributes.get("trails"), dict):
            tracks = {item.get("track_id") for item in results if isinstance(item, dict)}
            trails = {track: trail for track, trail in trails.items() if track in tracks}
            attributes = {**attributes, "trails": trails}
        kept._restored = dataclasses.replace(self._restored, results=results, attributes=attributes)
        return kept

    def with_image(
        self, image: np.ndarray[Any, Any], labels: dict[Any, Any] | None = None
    ) -> RecordedResult:
        """Return the same frame with pixels; for the arguments see `overlay`."""
        seen = copy.copy(self)
        seen._image, seen._labels = image, labels
        return seen

    @property
    def image(self) -> np.ndarray[Any, Any]:
        """The frame's pixels, if it was made by `with_image`."""
        if self._image is None:
            raise AttributeError  # Python then calls `__getattr__`, which explains it
        return self._image

    @property
    def image_overlay(self) -> np.ndarray[Any, Any]:
        """The frame's pixels with the results drawn with the recorded settings."""
        return self.overlay(self.image, labels=self._labels)

    @property
    def label_dictionary(self) -> dict[Any, Any]:
        """The model's labels by category id, in a new dictionary."""
        labels = self._metadata.get("model", {}).get("labels", {})
        return {int(key): label for key, label in labels.items()}

    def overlay(
        self,
        image: np.ndarray[Any, Any],
        settings: Mapping[str, Any] | None = None,
        labels: dict[Any, Any] | None = None,
        analyzers: Sequence[Any] = (),
    ) -> np.ndarray[Any, Any]:
        """Return ``image`` with this frame's results drawn as PySDK draws them.

        What analyzers had added is drawn as well, by degirum_tools, with the recorded settings.

        Args:
            image: The frame's pixels, uint8, height x width x 3, in the channel order of the
                recording (BGR from OpenCV). It is not changed.
            settings: Overlay settings that replace the recorded ones (`OVERLAY_SETTINGS`).
            labels: A `label_dictionary` that all frames of one pass share. PySDK adds labels that
                are not the model's (a recognised person's name) to it, and picks their colours by
                that order; with a dictionary for each frame such colours would change from frame
                to frame, which they do not in a live pipeline.
            analyzers: Analyzers to draw with: for classes that are not degirum_tools' own, which
                are never built from a file, or for other settings than the recorded ones.

        Raises:
            OverlayError: PySDK cannot draw these results (a box of NaN).
            VideoError: ``image`` is not a picture, or the installed PySDK does not know the
                recorded result type.
        """
        if not isinstance(image, np.ndarray) or image.ndim != 3:
            kind = type(image).__name__
            raise VideoError(
                f"frame {self.frame}: cannot be drawn on {kind}; expected pixels, an array of "
                "height x width x 3 (None stands for a frame whose pixels are missing)"
            )
        picture: Any = image
        if self._metadata.get("model", {}).get("image_backend") == "pil":
            picture = as_pil(image)  # PIL draws lines and letters differently
        drawing = drawing_of(self._metadata, analyzers)
        try:
            result = self.to_pysdk(picture, settings, labels)
            drawn = image_overlay(result)
            if drawing.analyzers:
                if np.may_share_memory(drawn, image):
                    drawn = drawn.copy()
                # Only analyzers of the user's may ask for the time.
                with recorded_time(self.completed_ns if analyzers else None):
                    drawn = drawing.draw(result, drawn)
            return drawn
        except VideoError:
            raise
        except Exception as error:  # PySDK and OpenCV raise anything for odd results
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise OverlayError(f"frame {self.frame}: {reason}") from error

    def analyzers_not_drawn(self, analyzers: Sequence[Any] = ()) -> tuple[str, ...]:
        """Return the classes of analyzers that ran, but that `overlay` cannot draw by itself."""
        return drawing_of(self._metadata, analyzers).missing

    def to_pysdk(
        self,
        image: np.ndarray[Any, Any] | None,
        settings: Mapping[str, Any] | None = None,
        labels: dict[Any, Any] | None = None,
    ) -> Any:
        """Return a real PySDK result object for ``image``, equal to `predict_stream`'s."""
        from degirum.exceptions import DegirumException
        from degirum.postprocessor import class_from_type_string

        model = self._metadata.get("model", {})
        recorded = self._metadata.get("overlay", {})
        chosen = {**recorded, **(settings or {})}
        type_name = model.get("result_type") or "Base"
        try:
            result_class = class_from_type_string(type_name)
        except DegirumException:
            raise VideoError(
                f"result type {type_name!r} is not known to the installed PySDK; "
                "it cannot draw this session's overlays"
            ) from None
        arguments = {
            argument: _as_pysdk(name, chosen[name])
            for name, argument in OVERLAY_SETTINGS.items()
            if name in chosen
        }
        results = _with_recorded_hashes(self.results, self._restored.label_hashes)
        # The constructor would convert coordinates and unpack masks again, so the results are set
        # afterwards. A class map is the exception: its class requires it, and does not change it.
        is_class_map = type_name == "Segmentation"
        result = result_class(
            inference_results=results if is_class_map else [],
            conversion=_conversion(self._restored, results),
            input_image=image,
            fill_color=tuple(chosen.get("fill_color", (0, 0, 0))),
            frame_info=self.info,
            label_dictionary=self.label_dictionary if labels is None else labels,
            input_shape=model.get("input_shape"),
            **arguments,
        )
        result._inference_results = results
        result.timing = self.timing
        if isinstance(results, list) and hasattr(result, "masks_present"):
            result.masks_present = any(
                isinstance(item, dict) and "mask" in item for item in results
            )
        for name, value in self.attributes.items():
            # Never replace an attribute of PySDK's own.
            if not hasattr(result, name):
                setattr(result, name, with_degirum_counts(value))
        return result


def _as_pysdk(name: str, value: Any) -> Any:
    """Turn JSON's lists into tuples: for PySDK a tuple is one colour, a list is many."""
    if name == "color" and isinstance(value, list):
        if value and isinstance(value[0], list | tuple):
            return [tuple(item) for item in value]
        return tuple(value)
    return value


def _conversion(restored: RestoredFrame, results: Any) -> Any:
    """Return a model-to-image conversion that gives the same overlay as the original.

    Only the overlay of a class map uses it, and only at the two points at which it was recorded.
    """
    samples = restored.conversion
    if samples is None:
        return lambda x, y: (x, y)
    height, width = np.squeeze(results[0]["data"]).shape
    first = (width / 2, height / 2)

    def convert(x: float, y: float) -> tuple[float, float]:
        return (samples[0], samples[1]) if (x, y) == first else (samples[2], samples[3])

    return convert


class _HashedLabel(str):
    """A label whose hash is that of the recording process: PySDK picks colours by it."""

    recorded_hash: int

    def __hash__(self) -> int:
        return self.recorded_hash

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) is True


def _with_recorded_hashes(results: Any, hashes: Mapping[str, int]) -> Any:
    if not hashes:
        return results
    copies = []
    for detection in results:
        label = detection.get("label") if isinstance(detection, dict) else None
        if isinstance(label, str) and label in hashes and "category_id" not in detection:
            hashed = _HashedLabel(label)
            hashed.recorded_hash = hashes[label]
            detection = {**detection, "label": hashed}
        copies.append(detection)
    return copies
