"""The video whose frames an export numbers: the size of its pictures, and their rate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from dgrec.errors import ConfigError, VideoError
from dgrec.footage import Footage, VideoFrames, column_values
from dgrec.replay.exports.block import Block
from dgrec.timeline import shown_us

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


def recorded_rate(batches: Iterable[pa.RecordBatch]) -> float | None:
    """Return frames a second of a recorded video, from its first row to its last; None if unknown.

    Each of its frames is shown when it was captured, which is seldom a source's own rate.

    Args:
        batches: ``video_frame`` and ``captured_at`` of all rows.
    """
    numbers, stamps = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for batch in batches:
        number, has_number = column_values(batch.column("video_frame"))
        stamp, has_stamp = column_values(batch.column("captured_at"))
        numbers.append(number[has_number & has_stamp])
        stamps.append(stamp[has_number & has_stamp])
    number, shown = np.concatenate(numbers).tolist(), shown_us(np.concatenate(stamps)).tolist()
    if len(number) < 2 or number[-1] <= number[0] or shown[-1] <= shown[0]:
        return None
    return round(float((number[-1] - number[0]) / (shown[-1] - shown[0])) * 1e6, 6)
