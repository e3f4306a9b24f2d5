"""The cost of each painter of `dgrec replay`, as a part of drawing and encoding a frame.

python -m bench.painters [--frames 600] [--size 1280x720]

Ten tracked boxes move over a blank canvas. Every round draws the same frames with each painter in
turn; the medians over the rounds are compared with those of the plain overlay and of the encoder.
CPU time counts, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dgrec
from dgrec.footage import Footage, Pixels
from dgrec.replay.rendering import Scene, select_frames
from dgrec.video import VideoWriter
from tests.factory import make_row, new_metadata, smooth_boxes, write_session

SCENES: dict[str, dict[str, Any]] = {
    "overlay": {},
    "overlay, --where": {"where": "score > 0.7"},
    "overlay, --hud": {"hud": True},
    "overlay, --trails 50": {"trails": 50},
    "overlay, --redact all": {"redact": ("all",)},
}


def session_at(path: Path, frames: int, width: int, height: int) -> Path:
    rows = [
        make_row(
            i,
            [{**box, "track_id": track} for track, box in enumerate(boxes)],
            width=width,
            height=height,
        )
        for i, boxes in enumerate(smooth_boxes(frames, 10))
    ]
    return write_session(path, rows, new_metadata(source={"kind": "camera"}), batch=200)


def draw(path: Path, scene: Scene, encoded: Path | None = None) -> float:
    """Return the milliseconds of CPU a frame that drawing takes (reading its row as well)."""
    with ExitStack() as closing:
        session = closing.enter_context(dgrec.open(path))
        pixels = closing.enter_context(Pixels(Footage(None)))
        painter = scene.painter(session, closing)
        pictures = select_frames(session).frames(session, pixels)
        first = next(pictures)
        picture = painter.draw(first.result, first.image)  # imports PySDK
        writer = None
        if encoded is not None:
            height, width = picture.shape[:2]
            writer = closing.enter_context(VideoWriter(encoded, width, height, overwrite=True))
        count, started = 0, time.process_time()
        for frame in pictures:
            picture = painter.draw(frame.result, frame.image)
            if writer is not None:
                writer.write(picture, frame.pts_us)
            count += 1
        return (time.process_time() - started) * 1000 / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    color = {"color": [(255, 255, 0), (0, 128, 255)]}
    with tempfile.TemporaryDirectory() as folder:
        path = session_at(Path(folder) / "s.parquet", arguments.frames, width, height)
        times: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            for name, options in SCENES.items():
                times.setdefault(name, []).append(draw(path, Scene(settings=color, **options)))
            with_encoder = draw(path, Scene(settings=color), Path(folder) / "a.mp4")
            times.setdefault("overlay, encoded as MP4", []).append(with_encoder)
    medians = {name: statistics.median(values) for name, values in times.items()}
    plain, encoded = medians["overlay"], medians["overlay, encoded as MP4"]
    what = f"{arguments.frames} frames of {arguments.size}"
    print(f"{what}, CPU time, medians of {arguments.rounds} rounds")
    for name, value in medians.items():
        added = value - plain
        print(
            f"{name:26} {value:7.3f} ms  {added:+7.3f} ms  {added / encoded:+6.1%} of an MP4 frame"
        )


if __name__ == "__main__":
    main()
