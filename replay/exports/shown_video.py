"""The video whose frames an export numbers: the size of its pictures."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from dgrec.errors import ConfigError, VideoError
from dgrec.footage import Footage, VideoFrames, column_values
from dgrec.replay.exports.block import Block

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
        sizes = np.stack(
            [column_values(block.rows.column(name))[0] for name in ("width", "height")]
        )
        apart = np.abs(sizes.T - self._size).max(axis=1) > _MOST_PIXELS_APART
        odd = np.flatnonzero(apart & is_shown & (sizes > 0).all(axis=0))
        width, height = self._size
        if len(odd) and width and height:
            wide, high = sizes[:, odd[0]]
            raise ConfigError(
                f"{self._name} is {width}x{height} instead of the frames' {wide}x{high}, so boxes "
                "would be elsewhere in it; export pictures with --images jpg"
            )
