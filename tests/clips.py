"""Short videos for tests that run the real model."""

from __future__ import annotations

import itertools
from pathlib import Path

import av

from dgrec import sample

__all__ = ["FRAMES", "short_clip"]

FRAMES = 16
#: Faces are seen from here on.
_FIRST = 240


def short_clip(path: Path, step: int = 1) -> Path:
    """Write `FRAMES` frames of the sample clip, with faces in each of them; return the path.

    Args:
        step: Take every STEPth frame. With 6, faces move, leave, and are in the first nine only.
    """
    with av.open(str(sample.CLIP)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for frame in itertools.islice(source.decode(video=0), _FIRST, _FIRST + FRAMES * step, step):
            target.mux(stream.encode(frame.reformat(640, 360, "yuv420p")))
        target.mux(stream.encode(None))
    return path
