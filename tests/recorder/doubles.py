"""Stand-ins for hardware: a camera that follows a script, and models of every kind.

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
from dgrec.format import Event, Metadata, Row
from dgrec.recorder.capture import Capture
from dgrec.recorder.machine import MachineMeter
from dgrec.recorder.options import RecordingOptions, Splitting
from dgrec.recorder.outputs import OutputQueue
from dgrec.recorder.segments import PlacedRow, names_of
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.sources import FileSource, Frame, open_source, parse_source
from dgrec.recorder.stream import Stream
from dgrec.recorder.video import VideoOptions, VideoRecorder
from dgrec.recorder.writing import Earlier, Moments, PartedJournal
from tests.factory import new_metadata
from tests.waiting import wait_until

__all__ = [
    "LABELS",
    "Options",
    "PysdkDouble",
    "ScriptedFrames",
    "Seen",
    "SourceDouble",
    "clip",
    "journal_of",
    "new_stream",
    "options_of",
    "record",
    "run_length",
    "write_rows",
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


def clip(clock: Clock, *, skip: int = 0, loop: bool = False) -> FileSource:
    """Return the sample clip from its frame ``skip`` on."""
    source = parse_source("sample")
    reader = open_source(source)
    for _ in range(skip):
        reader.read()
    return FileSource(reader, clock, reopen=lambda: open_source(source), loop=loop)


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


class Options(RecordingOptions):
    """Without limits: a part may take a tenth of a second, or a few KB."""

    def __post_init__(self) -> None:
        pass


_ONE_FILE = Splitting()


def options_of(splitting: Splitting = _ONE_FILE, **choices: Any) -> Options:
    return Options(
        split_every=splitting.every_s,
        split_size=splitting.size,
        keep_last=splitting.keep.last_s,
        keep_total=splitting.keep.total,
        keep_only=splitting.keep.only,
        keep_sample=splitting.keep.sample,
        **choices,
    )


def journal_of(
    output: Path,
    splitting: Splitting = _ONE_FILE,
    *,
    clock: Clock | None = None,
    replaces: Sequence[Path] = (),
    metadata: Metadata | None = None,
    moments: Moments | None = None,
    **choices: Any,
) -> PartedJournal:
    """Return the journals of a recording without video, to be written by hand."""
    metadata = metadata or new_metadata("s")
    names = names_of(output, splitting, metadata["session_id"])
    return PartedJournal(
        names,
        metadata,
        options_of(splitting, **choices),
        clock=clock or Clock(),
        video=VideoRecorder(VideoOptions(), names),
        meter=MachineMeter(),
        replaces=replaces,
        moments=moments,
    )


def write_rows(journal: PartedJournal, rows: Iterable[Row], events: Sequence[Event] = ()) -> None:
    """Write rows as one batch, as if they had been handed over just before."""
    segment_of = journal.cutter.segment_of
    journal.write([PlacedRow(row, segment_of(row.completed_ns)) for row in rows], events)


Watcher = Callable[[Row, Any], None]


class WatchedRecorder(SessionWriter):
    """Calls `watchers` with each row and its result, in the loop, once the row is handed over."""

    watchers: tuple[Watcher, ...] = ()
    #: Whether each row is in a journal before the next one comes: parts are then cut exactly where
    #: their size says, and not where it was estimated.
    in_step = False

    def _check_names(self, *_: object) -> None:
        """What stands in the way came there after it was looked for."""

    def record(self, frame: Frame, result: Any, completed_ns: int) -> Row:
        row = super().record(frame, result, completed_ns)
        if self.in_step:
            count = self.progress.frames
            writer = self._writer
            wait_until(lambda: self._journal.frames == count or writer.error, pause_s=0.0005)
        for watch in self.watchers:
            watch(row, result)
        return row


_NOTHING_EARLIER = Earlier()


def new_stream(
    model: Any,
    capture: Capture,
    output: Path,
    metadata: Metadata,
    *,
    clock: Clock | None = None,
    overwrite: bool = False,
    earlier: Earlier = _NOTHING_EARLIER,
    watchers: tuple[Watcher, ...] = (),
    in_step: bool = False,
    packets: Any = None,
    outputs: Sequence[OutputQueue] = (),
    moments: Moments | None = None,
    **choices: Any,
) -> Stream:
    """Return a recording that is ready to run; ``choices`` are those of `options_of`."""
    clock = clock or Clock()
    recorder = WatchedRecorder(
        output,
        options_of(**choices),
        metadata=metadata,
        clock=clock,
        overwrite=overwrite,
        earlier=earlier,
        packets=packets,
        outputs=outputs,
        moments=moments,
    )
    recorder.watchers, recorder.in_step = watchers, in_step
    return Stream(model, capture, recorder, clock=clock)


def record(
    model: Any,
    capture: Capture,
    output: Path,
    described: Metadata,
    *,
    watchers: tuple[Watcher, ...] = (),
    **more: Any,
) -> tuple[list[Seen], Metadata | DgrecError]:
    """Run a `Stream`; return copies of all results, and its metadata or the error it raised."""
    seen: list[Seen] = []
    metadata = {**described, "source": {"given": sample.CLIP.name, "kind": "file"}}
    watchers = (lambda _, result: seen.append(Seen.of(result)), *watchers)
    stream = new_stream(model, capture, output, metadata, watchers=watchers, **more)
    try:
        return seen, stream.run()
    except DgrecError as error:
        return seen, error
