"""Kill recordings with video at random moments: what is lost of it, and does the rest still meet?

    python -m bench.kill9_video [--count 50] [--seed 1] [--fps 30] [--gap 3000] [--split]

Each recording is a process of its own that runs `predict_stream` with a stand-in model over
pictures which carry their number, at the pace of a camera, and records them with video; it is
killed (SIGKILL) after one to four seconds. What it leaves is recovered, every frame of the video
decoded, and its number compared with the row that names it. Exits with 1 at the first recording
with a row on the wrong frame, or with more than a second of video lost.

The tests do the same a few times.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dgrec.clock import Clock
from dgrec.errors import DgrecError
from dgrec.recorder.capture import Capture
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.recovery import left_behind, recover
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.sources import Frame
from dgrec.recorder.stream import Stream
from dgrec.recorder.video.mp4 import frame_stamps
from dgrec.replay.verify import verify
from dgrec.session import open_session
from tests.recorder.doubles import PysdkDouble, SourceDouble
from tests.replay.clips import HEIGHT, WIDTH, number_in, numbered_image

__all__ = ["look", "mismatches", "run_once"]


class NumberedCamera(SourceDouble):
    """A live source whose picture number ``i`` says ``i``, ``fps`` times a second, without end.

    After a second it is away for ``gap_s``, which passes in no time: its clock jumps. After so many
    ``frames``, if that is not 0, it falls silent.
    """

    end_reason = "interrupted"

    def __init__(self, fps: float, gap_s: float = 0.0, frames: int = 0) -> None:
        self._period = 1 / fps
        self._away_at, self._away_ns = int(fps), int(gap_s * 1e9)
        self._jumped_ns = 0
        self._frames = frames
        self.clock = Clock(lambda: time.perf_counter_ns() + self._jumped_ns)
        self._next = 0
        self._due = time.monotonic()

    def read(self) -> Frame | None:
        if self._frames and self._next == self._frames:
            time.sleep(3600)
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due += self._period
        index, self._next = self._next, self._next + 1
        if index == self._away_at:
            self._jumped_ns += self._away_ns
        image = numbered_image(index % 4096)
        print(json.dumps([index, time.monotonic()]), flush=True)  # before it is handed over
        stamp, at = self.clock.now_ns(), index * self._period
        return Frame(image, index, at, at, stamp, 1000, WIDTH, HEIGHT)

    def wait(self, timeout_s: float) -> bool:
        if self._frames and self._next == self._frames:
            time.sleep(timeout_s)
            return False
        return True


def _record(folder: Path, fps: float, split: bool, gap_s: float, frames: int = 0) -> None:
    camera = NumberedCamera(fps, gap_s, frames)
    clock = camera.clock
    model = PysdkDouble("Detection", lambda _: [])
    source = {"given": "cam0", "kind": "camera", "width": WIDTH, "height": HEIGHT}
    options = RecordingOptions(
        policy="drop-oldest",
        split_every=1.0 if split else None,
        video="raw",
        video_policy="leave-out",
    )
    metadata = {**model.describe(), "source": source}
    recorder = SessionWriter(folder / "s.parquet", options, metadata=metadata, clock=clock)
    Stream(model, Capture(camera), recorder, clock=clock).run()


def mismatches(path: Path) -> tuple[int, int]:
    """Return how many rows of a session have a frame in its video, and how many the wrong one."""
    import av

    with open_session(path) as session:
        rows = [row for batch in session.batches() for row in batch.to_pylist()]
        videos = session.metadata["video"]
    found = wrong = 0
    for video in videos:
        with av.open(str(path.with_name(video["file"]))) as container:
            frames = [
                (frame.pts * frame.time_base, number_in(frame.to_ndarray(format="bgr24")))
                for frame in container.decode(video=0)
            ]
        assert len(frames) == video["frames"], f"{video['file']} has {len(frames)} frames"
        with_frame = [row for row in rows if row["video_frame"] is not None]
        begun = with_frame[0]["captured_at"] if with_frame else None
        for row in with_frame:
            if row["video_frame"] < len(frames):
                pts, number = frames[row["video_frame"]]
                found += 1
                offset = (row["captured_at"] - begun).total_seconds()
                # A row may be lost whose frame is first: stamps then differ by what is before it.
                wrong += number != row["source_frame"] % 4096
                wrong += with_frame[0]["video_frame"] == 0 and round(pts * 10**6) != round(
                    offset * 10**6
                )
    return found, wrong


def rows_with_pictures(folder: Path) -> int:
    """Return how many rows in a folder have a frame that can be decoded.

    (A video with a gap also has pictures that are of no row.)
    """
    count = 0
    for path in (*folder.glob("*.arrows"), *folder.glob("*.parquet")):
        with contextlib.suppress(DgrecError, OSError), open_session(path) as session:
            pictures = len(frame_stamps(path.with_suffix(".mp4")))
            for batch in session.batches(["video_frame"]):
                numbers = batch.column(0).drop_null().to_numpy()
                count += int((numbers < pictures).sum())
    return count


def run_once(
    folder: Path, seed: int, fps: float, split: bool, *, gap_s: float = 0.0, at_least: int = 0
) -> tuple[int, int, float]:
    """Kill one recording; return rows with a frame, wrong ones, and the seconds of video lost.

    With ``gap_s`` the camera is away for so long after its first second, and killed later. With
    ``at_least`` it is killed when more rows and their frames have been written, however long that
    takes.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.kill9_video", "--child", str(folder), "--fps", str(fps)]
        + ["--gap", str(gap_s)]
        + ["--split"] * split,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    # The first frame: it has come up. And where there is a gap, the first one after it.
    lines = [child.stdout.readline() for _ in range(1 + int(fps) * (gap_s > 0))]
    time.sleep(random.Random(seed).uniform(1.0, 4.0))
    while at_least and child.poll() is None and rows_with_pictures(folder) <= at_least:
        time.sleep(0.1)
    os.kill(child.pid, signal.SIGKILL)
    killed = time.monotonic()
    lines += child.stdout.read().splitlines()
    child.stdout.close()
    child.wait()
    read_at = dict(map(json.loads, filter(lambda line: line.rstrip().endswith("]"), lines)))
    return look(folder, read_at, killed)


def look(folder: Path, read_at: dict[int, float], killed: float) -> tuple[int, int, float]:
    for journal in left_behind(folder):
        recover(journal)
    found = wrong = 0
    last = -1
    for path in sorted(folder.glob("*.parquet")):
        assert verify(path) == [], verify(path)
        more, bad = mismatches(path)
        found, wrong = found + more, wrong + bad
        with open_session(path) as session:
            ends = session.metadata["video"][0]["frames"] if session.metadata["video"] else 0
            for batch in session.batches():
                for row in batch.to_pylist():
                    if row["video_frame"] is not None and row["video_frame"] < ends:
                        last = max(last, row["source_frame"])
    lost = [at for index, at in read_at.items() if index > last]
    return found, wrong, killed - min(lost, default=killed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--gap", type=float, default=0.0, help="seconds that the camera is away")
    parser.add_argument("--frames", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--split", action="store_true", help="a part every second")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _record(arguments.child, arguments.fps, arguments.split, arguments.gap, arguments.frames)
        return 0
    frames = 0
    seconds = []
    for i in range(arguments.count):
        with tempfile.TemporaryDirectory() as folder:
            seed = arguments.seed * 1_000_000 + i
            found, wrong, lost = run_once(
                Path(folder), seed, arguments.fps, arguments.split, gap_s=arguments.gap
            )
        frames += found
        seconds.append(lost)
        if wrong or lost > 1:
            print(f"seed {seed}: {wrong} of {found} rows on the wrong frame, {lost:.2f} s lost")
            return 1
    seconds.sort()
    print(f"{len(seconds)} recordings killed: {frames:,} rows with a frame, 0 on the wrong one")
    print(f"video lost: median {seconds[len(seconds) // 2]:.2f} s, most {seconds[-1]:.2f} s")
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
