"""`RecordedResult`: a recorded frame with the interface of a PySDK result."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dgrec.errors import OverlayError, VideoError, first_line
from dgrec.format import OVERLAY_SETTINGS, Metadata, RestoredFrame, restore, utc_ns

if TYPE_CHECKING:
    from dgrec.analyzers import Notice

__all__ = ["OVERLAY_SETTINGS", "RecordedResult"]


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

    def __init__(
        self,
        row: Mapping[str, Any],
        metadata: Metadata,
        notices: Callable[[int], dict[str, Notice]] | None = None,
    ) -> None:
        self.row = row
        self._notices = notices
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
        """The time at which the frame had been read (UTC); None if unknown."""
        stamp: dt.datetime | None = self.row["captured_at"]
        return stamp

    @property
    def described(self) -> Mapping[str, Any] | None:
        """The row's own ``model`` and ``overlay``; None: they are the session's."""
        return self._restored.described or None

    @property
    def completed_ns(self) -> int | None:
        """The time at which the result came out, in nanoseconds since 1970; None if unknown."""
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

    def __copy__(self) -> RecordedResult:
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Return what a deep copy, or another process, gets: all but the open session."""
        notices: dict[str, Notice] = {}
        has_them = self._notices is not None and self._metadata.get("analyzers")
        if has_them and self.completed_ns is not None:
            notices = self._notices(self.completed_ns)  # type: ignore[misc]
        return {**vars(self), "_notices": partial(_known, notices)}

    def __repr__(self) -> str:
        try:
            return f"<frame {self.frame}: {self.results!r}>"
        except ValueError:  # an integer with more digits than Python writes
            return f"<frame {self.frame}: {len(self.results)} results>"

    def __str__(self) -> str:
        """Return the text that PySDK gives of such a result, where PySDK is installed."""
        try:
            return str(self.to_pysdk(None))
        except Exception:  # PySDK's text needs keys that these results may not have
            return repr(self)

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
        labels = self._described["model"].get("labels", {})
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
        from dgrec.analyzers import drawing_of, recorded_time
        from dgrec.overlay import as_pil, image_overlay

        picture: Any = image
        if self._described["model"].get("image_backend") == "pil":
            picture = as_pil(image)  # PIL draws lines and letters differently
        drawing = drawing_of(self._metadata, analyzers)
        try:
            result = self.to_pysdk(picture, settings, labels)
            drawn = image_overlay(result)
            if drawing.analyzers:
                notices: dict[str, Notice] = {}
                if drawing.has_notifiers and self._notices and self.completed_ns is not None:
                    notices = self._notices(self.completed_ns)
                if np.may_share_memory(drawn, image):
                    drawn = drawn.copy()
                # Only the user's analyzers may ask for the time.
                with recorded_time(self.completed_ns if analyzers else None):
                    drawn = drawing.draw(result, drawn, notices)
            return drawn
        except VideoError:
            raise
        except Exception as error:  # PySDK and OpenCV raise anything for odd results
            raise OverlayError(f"frame {self.frame}: {first_line(error)}") from error

    def analyzers_not_drawn(self, analyzers: Sequence[Any] = ()) -> tuple[str, ...]:
        """Return the classes of analyzers that ran, but that `overlay` cannot draw by itself."""
        from dgrec.analyzers import drawing_of

        return drawing_of(self._metadata, analyzers).missing

    def to_pysdk(
        self,
        image: Any,
        settings: Mapping[str, Any] | None = None,
        labels: dict[Any, Any] | None = None,
    ) -> Any:
        """Return a real PySDK result object for ``image``, equal to `predict_stream`'s."""
        from dgrec.overlay import pysdk_result

        restored = self._restored
        is_own = "model" in restored.described
        return pysdk_result(
            self._described,
            restored,
            image,
            settings or {},
            # The session's labels are not those of a result of another kind.
            self.label_dictionary if labels is None or is_own else labels,
        )

    @property
    def _described(self) -> dict[str, Any]:
        """``model`` and ``overlay`` of this result: its own, or else the session's."""
        own = self._restored.described
        return {key: own.get(key) or self._metadata.get(key, {}) for key in ("model", "overlay")}


def _known(notices: dict[str, Notice], completed_ns: int) -> dict[str, Notice]:
    """Return the messages of a result that has left its session."""
    return notices
