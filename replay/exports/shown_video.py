"""The video whose frames an export numbers: the size of its pictures, and their rate."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from dgrec.errors import ConfigError, VideoError
from dgrec.footage import Footage, VideoFrames, column_values
from dgrec.replay.exports.block import Block
from dgrec.timeline import shown_us

if TYPE_CHECKING:
    from dgrec.session import Session

_Array = np.ndarray[Any, Any]
#: Encoders make sides even.
_MOST_PIXELS_APART = 1


class ShownVideo:
    """Compares the size of a video's pictures with that of the frames, in whose pixels boxes are.

    Where one of them is not known, nothing is compared.
    """

    def __init__(self, footage: Footage) -> None:
        self._name, self._size = "", (0, 0)
        if footage.path is None:
            return
        self._name = footage.path.name
        with (
            contextlib.suppress(VideoError),
            contextlib.closing(
                VideoFrames(footage.path, changed=footage.changed, kept=footage.kept)
            ) as frames,
        ):
            image = frames.read(0)
            if image is not None:
                self._size = image.shape[1], image.shape[0]

    def check(self, block: Block, is_shown: _Array) -> None:
        """Check the frames of a block.

        Args:
            is_shown: Which of them are in the video.

        Raises:
            ConfigError: One has another size.
        """
        sizes = block.sizes()
        apart = np.abs(sizes - self._size).max(axis=1) > _MOST_PIXELS_APART
        odd = np.flatnonzero(apart & is_shown & sizes.all(axis=1))
        width, height = self._size
        if len(odd) and width and height:
            wide, high = sizes[odd[0]]
            raise ConfigError(
                f"{self._name} is {width}x{height} instead of the frames' {wide}x{high}, so boxes "
                "would be elsewhere in it; export pictures with --images jpg"
            )


def recorded_rate(session: Session, footage: Footage) -> float | None:
    """Return frames a second of a recorded video, from its first row to its last; None if unknown.

    Each of its frames is shown when it was captured, which is seldom a source's own rate. Only the
    video says so of a clip, which goes on at once where moments were left out.
    """
    numbers, stamped, stamps = ([np.zeros(0, np.int64)] for _ in range(3))
    for batch in session.batches(columns=["video_frame", "captured_at"]):
        number, has_number = column_values(batch.column("video_frame"))
        stamp, has_stamp = column_values(batch.column("captured_at"))
        numbers.append(number[has_number])
        stamped.append(number[has_number & has_stamp])
        stamps.append(stamp[has_number & has_stamp])
    shown = np.concatenate(numbers)
    shown = shown[[0, -1]] if len(shown) else shown
    times_us = _times_us(footage, shown.tolist())
    if times_us is None:
        shown, times_us = np.concatenate(stamped), shown_us(np.concatenate(stamps))
    if len(shown) < 2 or shown[-1] <= shown[0] or times_us[-1] <= times_us[0]:
        return None
    return round(float((shown[-1] - shown[0]) / (times_us[-1] - times_us[0])) * 1e6, 6)


def _times_us(footage: Footage, numbers: list[int]) -> _Array | None:
    """Return the times of a video's frames in microseconds; None if it cannot be read."""
    if footage.path is None:
        return None
    try:
        # As a changed one its index is read at once; without an index it would have to be decoded.
        frames = VideoFrames(footage.path, changed=True, kept=footage.kept)
    except VideoError:
        return None
    with contextlib.closing(frames):
        length = frames.length or 0  # the file may be cut off
        times = [frames.time_of(each) if 0 <= each < length else None for each in numbers]
    return None if None in times else np.array(times, np.float64) * 1e6
