"""The newest frame of a recording as a picture, for pages that show it live."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dgrec.errors import first_line
from dgrec.format import Metadata, RestoredFrame, Row
from dgrec.overlay import image_overlay, pysdk_result
from dgrec.paths import session_stem
from dgrec.recorder.outputs.output import Output
from dgrec.recorder.outputs.publisher import Publisher
from dgrec.recorder.results import DetectionList

if TYPE_CHECKING:
    from dgrec.recorder.session_writer import SessionWriter

#: Seconds from one picture to the next, at least.
_STEP_S: Final = 1 / 15
#: Wider pictures are scaled down.
_WIDEST: Final = 1280
_QUALITY: Final = 80


class Shown(NamedTuple):
    """A frame as a picture.

    ``jpeg`` is empty where it has no pixels, or cannot be drawn; ``problem`` says why.
    """

    captured_us: int
    detections: int
    jpeg: bytes
    problem: str = ""


class NewestFrame(Output):
    """Makes a picture, with its overlay, of the next frame once a page asks for it.

    While no page asks, a frame costs nothing: it is not even handed over.

    Args:
        output: The session that is recorded.
    """

    name = "view"
    capacity = 1
    is_waited_for = False
    counts_losses = False
    wants_results = True

    def __init__(self, output: Path) -> None:
        #: The name of the recording in requests for pictures.
        self.place = str(output.absolute().with_name(session_stem(output)))
        #: Gets each picture, in the thread of this output.
        self.shown: Callable[[NewestFrame, Shown], None] = lambda *_: None
        #: Called once there will be no further picture.
        self.ended: Callable[[], None] = lambda: None
        #: Whether a page waits for the next frame.
        self.is_asked = False
        self._next_s = 0.0
        self._metadata: Metadata = {}
        self._writer: SessionWriter | None = None

    def ask(self) -> None:
        """Have a picture made of the next frame. Any thread may call this."""
        self.is_asked = True

    def targets(self) -> list[Metadata]:
        """Return what waits for each target, and what it has. Any thread may call this."""
        writer = self._writer
        queues = () if writer is None else writer.outputs
        return [
            {
                "target": queue.output.name,
                "delivered": queue.output.delivered,
                "waiting": queue.depth,
                # A target that has ended gets none of the frames that still come, either.
                "left_out": queue.output.missing if queue.failure else queue.left_out,
                "problem": queue.failure or "",
            }
            for queue in queues
            if isinstance(queue.output, Publisher)
        ]

    # --- as an output ---

    def watch(self, writer: SessionWriter) -> None:
        self._writer = writer

    def start(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def wants(self, row: Row) -> bool:
        if not self.is_asked or time.monotonic() < self._next_s:
            return False
        self.is_asked = False
        self._next_s = time.monotonic() + _STEP_S
        return True

    def close(self) -> None:
        self.ended()

    def frame(self, row: Row, result: Any) -> None:
        count = len(row.results) if isinstance(row.results, list) else 0
        try:
            jpeg, problem = _jpeg(self._drawable(result)), ""
        except Exception as error:  # PySDK raises anything for odd results
            jpeg, problem = b"", f"the frame cannot be drawn: {first_line(error)}"
        if not jpeg and not problem:
            problem = "the results have no pictures"
        self.shown(self, Shown(row.captured_ns // 1000, count, jpeg, problem))

    def _drawable(self, result: Any) -> Any:
        """Return a result that PySDK draws; a list of detections is drawn as the session says."""
        if not isinstance(result, DetectionList) or result.image is None:
            return result
        restored = RestoredFrame(result.results, {}, result.info, {})
        return pysdk_result(self._metadata, restored, result.image, {}, {})


def _jpeg(result: Any) -> bytes:
    """Return a result's picture with its overlay; b"" if it has none."""
    import cv2

    if getattr(result, "image", None) is None:
        return b""
    image = image_overlay(result)
    if image.shape[1] > _WIDEST:
        height = max(1, round(image.shape[0] * _WIDEST / image.shape[1]))
        image = cv2.resize(image, (_WIDEST, height), interpolation=cv2.INTER_AREA)
    is_done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(data) if is_done else b""
