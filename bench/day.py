"""A day of a camera: what each command takes, as a whole process, and whether it grows.

    python -m bench.day FOLDER [--frames 2600000] [--boxes 10] [--only replay] [--repeat 3]

FOLDER keeps the sessions (458 MB, made on first use) for the next time. Each command runs on a
tenth of the day and on the whole of it, with the same part asked for: a ratio of 1 means that its
time does not grow with the recording. Seconds are of the clock, CPU seconds of user and system
(which a busy machine disturbs less), MB the peak of the process; the best of all repetitions.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import dgrec
from dgrec.format import Journal, write_sealed
from tests.factory import CLOSING, START_NS, make_row, new_metadata, smooth_boxes, write_journal

_GROUP_FRAMES = 16_384
_STEP_US = 33_333
_ROOT = Path(dgrec.__file__).parents[1]


# --- the sessions --------------------------------------------------------------------------------


def make_day(
    path: Path,
    frames: int,
    boxes: int,
    *,
    seed: int = 1,
    step_us: int = _STEP_US,
    video: Mapping[str, Any] | None = None,
) -> Path:
    """Write a session of so many frames and boxes: the boxes of one row group, repeated.

    Args:
        video: The entry of a video with a picture for each row: number n is shown at
            n * `step_us` + n * 7919 % 400.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            make_row(number, results)
            for number, results in enumerate(smooth_boxes(min(frames, _GROUP_FRAMES), boxes))
        ]
        source = {"given": "rtsp://camera/1", "kind": "camera", "width": 640, "height": 480}
        metadata = new_metadata(path.stem, source=source)
        if video is not None:
            size = {name: video[name] for name in ("width", "height")}
            metadata["source"] |= size
            metadata["video"] = [dict(video)]
            rows = [_scaled(row._replace(**size), video["width"] / 1920) for row in rows]
        journal = Journal.open(write_journal(Path(folder) / "a.arrows", rows, metadata, batch=512))
        pattern = pa.Table.from_batches(list(journal.batches())).combine_chunks()
    write_sealed(
        path,
        pattern.schema,
        _groups(pattern, frames, np.random.default_rng(seed), step_us, video is not None),
        lambda totals: {**metadata, **CLOSING, "totals": {}, "ended_at": totals.ended_at},
    )
    return path


def _scaled(row: Any, scale: float) -> Any:
    """Return a row whose boxes are within a smaller picture."""
    results = [
        {**found, "bbox": [float(np.float32(side * scale)) for side in found["bbox"]]}
        for found in row.results
    ]
    return row._replace(results=results)


def _groups(
    pattern: pa.Table, frames: int, rng: np.random.Generator, step_us: int, has_video: bool
) -> Iterator[pa.RecordBatch]:
    for start in range(0, frames, pattern.num_rows):
        count = min(pattern.num_rows, frames - start)
        number = np.arange(start, start + count)
        jitter = number * 7919 % 400 if has_video else rng.integers(0, 400, count)
        captured = START_NS // 1000 + number * step_us + jitter
        # A twentieth of the frames takes more than 16.9 ms.
        latency = np.round(rng.normal(12.0, 2.979, count).clip(4, 40) * 4096) / 4096
        replaced: dict[str, Any] = {
            "frame": number,
            "source_frame": number,
            "media_time_s": number * step_us / 1e6,
            "captured_at": captured,
            "completed_at": captured + np.round(latency * 1000).astype(np.int64),
            "latency_ms": latency,
            "inference_ms": np.round((latency - 3) * 4096) / 4096,
            "read_ms": np.round(rng.gamma(4, 0.5, count) * 4096) / 4096,
        }
        if has_video:
            replaced["video_frame"] = number
        table = pattern.slice(0, count)
        for name, values in replaced.items():
            index = table.schema.get_field_index(name)
            field = table.schema.field(index)
            array = pa.array(values)
            if pa.types.is_timestamp(field.type):
                array = array.cast(pa.timestamp("us")).cast(field.type)
            table = table.set_column(index, field, array)
        yield from table.combine_chunks().to_batches()


# --- the commands --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A line of the table: what is run, and what it should take of a day."""

    name: str
    #: After ``python -m``; {day}, {other} and {out} are files, {start} and {end} times.
    arguments: str
    seconds: float
    megabytes: int | None = None


ROWS = (
    Row("replay --start 20h --max-frames 50",
        "dgrec replay {day} --start {start} --max-frames 50 -o {out}.mp4", 1.5, 300),
    Row("replay --contact-sheet 4x4",
        "dgrec replay {day} --contact-sheet 4x4 -o {out}.png", 2),
    Row("replay --where 'latency_ms > 16.95'",
        "dgrec replay {day} --where latency_ms>16.95 --max-frames 50 -o {out}.mp4", 2),
    Row("clip --start 20h --end 20h1m",
        "dgrec clip {day} --start {start} --end {end} -o {out}.parquet", 1),
    Row("clip --where 'latency_ms > 16.9'",
        "dgrec clip {day} --where latency_ms>16.9 -o {out}.parquet", 10, 500),
    Row("report", "dgrec report {day} -o {out}.html", 5, 500),
    Row("compare", "dgrec compare {day} {other}", 8, 700),
    Row("stats", "dgrec stats {day}", 2),
    Row("query 'SELECT count(*) FROM frames'",
        "dgrec query {day} SELECT_count(*)_FROM_frames", 0.4),
    Row("player: first picture", "bench.day --play {day}", 1),
    Row("player: a jump", "bench.day --jump {day}", 0.2),
)  # fmt: skip


#: Runs a command and says what it took. The peak of a process counts from the one that started it:
#: that has to be a small one.
_TIMED = """
import os, sys, time
began = time.perf_counter()
process = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(process, 0)
seconds, cpu_s = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
print(seconds, cpu_s, usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass
class Measured:
    seconds: float
    cpu_s: float
    megabytes: float


def measure(row: Row, day: Path, other: Path, hours: float, folder: Path) -> Measured:
    """Run a command once."""
    start_s = hours * 3600 * 20 / 24
    places = {
        "day": day,
        "other": other,
        "out": folder / "out",
        "start": f"{start_s:.0f}s",
        "end": f"{start_s + 60:.0f}s",
    }
    words = [word.format(**places) for word in row.arguments.split()]
    if "query" in words:
        words[-1] = words[-1].replace("_", " ")
    for left in folder.iterdir():
        left.unlink()
    command = [sys.executable, "-S", "-E", "-c", _TIMED, sys.executable, "-m", *words]
    # pip compiles what it installs: modules of a checkout are kept compiled, too.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    seconds, cpu_s, kilobytes = map(float, done.stderr.split()[-3:])
    if words[0] == "bench.day":  # says itself how long the one thing took
        seconds, cpu_s = map(float, done.stdout.split()[-2:])
    return Measured(seconds, cpu_s, kilobytes / 1024)


def play(day: Path, *, jump: bool) -> None:
    """Print the seconds until a window has its first picture, or one after a jump by 20 hours."""
    from dgrec.footage import Pixels, find_footage
    from dgrec.replay.player import player as player_module
    from dgrec.replay.rendering import Scene, canvas_for

    shown: list[float] = []
    cpu: list[float] = []

    class NoWindow:
        """Closes itself once what is to be timed was shown."""

        def __init__(self, *_: Any) -> None:
            self.closed = False
            self._bar_clicks: list[tuple[int, int]] = []
            self._size = (0, 0)

        def __enter__(self) -> NoWindow:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def show(self, image: Any) -> None:
            shown.append(time.perf_counter())
            cpu.append(time.process_time())
            self._size = image.shape[1], image.shape[0]
            self.closed = len(shown) > jump

        def wait(self, seconds: float) -> int | None:
            if not jump or len(shown) > 1:
                return None
            shown[0], cpu[0] = time.perf_counter(), time.process_time()  # of the click
            width, height = self._size
            self._bar_clicks = [(width * 20 // 24, height - 12)]
            return ord(" ")

        def clicks(self) -> list[tuple[int, int]]:
            taken, self._bar_clicks = self._bar_clicks, []
            return taken

    player_module.Window = NoWindow  # type: ignore[assignment,misc]
    began, began_cpu = time.perf_counter(), time.process_time()
    with contextlib.ExitStack() as closing:
        session = closing.enter_context(dgrec.open(day))
        pixels = closing.enter_context(Pixels(find_footage(session, annotated=True)))
        painter = Scene().painter(session, closing)
        canvas = canvas_for(session, painter)
        player_module.play_session(session, pixels, lambda look: painter, canvas, "bench")
    if jump:
        began, began_cpu = shown[0], cpu[0]
    print(shown[-1] - began, cpu[-1] - began_cpu)


# --- the table -----------------------------------------------------------------------------------


def _session(folder: Path, frames: int, boxes: int, seed: int) -> Path:
    path = folder / f"day-{frames}-{boxes}-{seed}.parquet"
    return path if path.exists() else make_day(path, frames, boxes, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where sessions are kept")
    parser.add_argument("--frames", type=int, default=2_600_000)
    parser.add_argument("--boxes", type=int, default=10)
    parser.add_argument("--only", default="", help="commands whose line holds this text")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    lengths = (options.frames // 10, options.frames)
    days = [
        [_session(options.folder, frames, options.boxes, seed) for seed in (1, 2)]
        for frames in lengths
    ]
    for frames, (day, _) in zip(lengths, days, strict=True):
        print(f"{frames:,} frames of {options.boxes} boxes: {day.stat().st_size / 1e6:.0f} MB")
    print(f"{'':44}{'a tenth':>17}{'a day':>22}{'should':>14}{'ratio':>7}")
    print(
        f"{'':44}{'s':>6}{'CPU':>5}{'MB':>6}{'s':>10}{'CPU':>6}{'MB':>6}{'s':>9}{'MB':>5}{'CPU':>7}"
    )
    work = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        for row in ROWS:
            if options.only not in row.name:
                continue
            best = []
            for frames, (day, other) in zip(lengths, days, strict=True):
                hours = frames * _STEP_US / 1e6 / 3600
                runs = [measure(row, day, other, hours, work) for _ in range(options.repeat)]
                best.append(
                    Measured(
                        min(run.seconds for run in runs),
                        min(run.cpu_s for run in runs),
                        min(run.megabytes for run in runs),
                    )
                )
            tenth, whole = best
            print(
                f"{row.name:44}{tenth.seconds:6.2f}{tenth.cpu_s:5.1f}{tenth.megabytes:6.0f}"
                f"{whole.seconds:10.2f}{whole.cpu_s:6.1f}{whole.megabytes:6.0f}"
                f"{row.seconds:9.1f}{row.megabytes or '-':>5}{whole.cpu_s / tenth.cpu_s:7.1f}",
                flush=True,
            )
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    if sys.argv[1:2] in (["--play"], ["--jump"]):
        play(Path(sys.argv[2]), jump=sys.argv[1] == "--jump")
    else:
        main()
