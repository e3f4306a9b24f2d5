"""A camera that is killed and started again, many times in one recording: what is in the session.

    python -m bench.camera_loss [--times 20] [--kind mjpeg|rtsp|both]

The cameras are real ones on loopback, with a frame number in the pixels of each picture; the model
is the bundled one. Every frame that arrived has to be there, in order, every gap explained; exit
code 1 if anything is not.
"""

from __future__ import annotations

import argparse
import faulthandler
import tempfile
import time
from pathlib import Path

from dgrec.recorder.model import ModelRequest, load_model
from tests.recorder.camera_loss import run
from tests.recorder.network_camera import MjpegCamera, RtspCamera


def measure(camera: MjpegCamera, times: int) -> list[str]:
    """Record with ``times`` losses, print what came of it, and return what is wrong."""
    loaded = load_model(ModelRequest())
    described = {"model": loaded.description, "overlay": loaded.overlay}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, loaded.model, camera:
        story = run(camera, times, Path(folder) / "loss.parquet", loaded.model, described)
    totals = story.metadata["totals"]
    seconds = [gap["seconds"] for gap in story.gaps]
    found = story.problems()
    if len(story.gaps) < times:
        found.append(f"{times} losses, but {len(story.gaps)} gaps")
    print(
        f"{camera.scheme}: {times} losses in {time.monotonic() - started:.0f} s, "
        f"{len(story.gaps)} gaps of {min(seconds, default=0):.1f} to "
        f"{max(seconds, default=0):.1f} s; "
        f"{totals['frames']} rows, {totals['dropped_queue']} replaced by newer ones, "
        f"{totals['dropped_camera']} lost by the camera, {len(found)} unexplained"
    )
    for reason in sorted({gap["reason"] for gap in story.gaps}):
        print(f"  {sum(gap['reason'] == reason for gap in story.gaps):3} x {reason}")
    for line in found:
        print(f"  {line}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--kind", choices=["mjpeg", "rtsp", "both"], default="both")
    options = parser.parse_args()
    cameras = {"mjpeg": MjpegCamera, "rtsp": RtspCamera}
    # Far more than it takes: whatever hangs shows where.
    faulthandler.dump_traceback_later(240 + 40 * options.times, exit=True)
    wrong = 0
    for kind, camera in cameras.items():
        if options.kind in (kind, "both"):
            wrong += len(measure(camera(fps=25 if kind == "mjpeg" else 15), options.times))
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
