"""Raw video of the source's own packets: pictures that differ, and what keeping them costs.

    python -m bench.packets [SOURCE ...] [--rounds 3]

Each source (a video file; by default the sample and footage with B-frames, open groups of pictures
and uneven times, in H.264 and H.265) is recorded through the real `predict_stream` with a stand-in
model that remembers a digest of every frame: as a whole, with two of three frames left out, in
parts, and killed (SIGKILL) and recovered; of each a clip is cut. Every row's picture is then
compared to what the model saw.

Prints rows, pictures that differ and rows without a picture; then the processor time of decoding
alone, of recording without video, with packets kept, and with pictures encoded again.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import dgrec
from dgrec import sample
from dgrec.recorder.options import Splitting
from dgrec.recorder.recovery import recover
from dgrec.replay.clip import Span, write_clip
from dgrec.replay.verify import verify
from dgrec.video import VideoReader
from tests.footage import Encoding, encode
from tests.recorder.kept import KILLED, differing, record_kept

_OPEN = {"x264-params": "open-gop=1:b-adapt=0:scenecut=0"}
_UNEVEN = [0, 7, 40, 73, 80, 250, 251, 900]
FOOTAGE = {
    "b-frames.mp4": Encoding(b_frames=2, options={"x264-params": "b-adapt=0"}),
    "open.ts": Encoding(b_frames=2, options=_OPEN, format="mpegts"),
    "hevc.ts": Encoding(codec="libx265", format="mpegts"),
    "uneven.mkv": Encoding(b_frames=2, pts_ms=lambda i: _UNEVEN[i % 8] + i // 8 * 1000),
}


def compare(source: Path, folder: Path) -> None:
    name = source.name
    for how, every, split in (("whole", 1, None), ("a third", 3, None), ("parts", 1, 0.2)):
        output = folder / f"{name}-{how.replace(' ', '-')}.parquet"
        seen = record_kept(source, output, every=every, splitting=Splitting(split), watch=_pause)
        _report(name, how, output, seen)
        _clip(name, how, output, seen, every)
    output = folder / f"{name}-killed.parquet"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), str(output), "150"],
        capture_output=True,
        text=True,
        check=False,
    )
    seen = dict(enumerate(killed.stdout.split()))
    _report(name, "killed", output.with_suffix(".arrows"), seen, sealed=False)
    recover(output.with_suffix(".arrows"))
    _report(name, "recovered", output, seen)
    _clip(name, "recovered", output, seen, 2)


def _pause(count: int) -> None:
    time.sleep(0.003)


def _clip(name: str, how: str, output: Path, seen: Mapping[int, str], every: int) -> None:
    clip = output.with_name(f"clip-{output.name}")
    with dgrec.open(output) as session:
        last = len(session)
        spans = [Span(last // 7, last // 3), Span(last // 2 + 1, last)]
        write_clip(session, spans, clip)
    with dgrec.open(clip) as session:
        rows = [session.row(row)["source_frame"] // every for row in range(len(session))]
    _report(name, f"{how}, clip", clip, {at: seen[row] for at, row in enumerate(rows)})


def _report(
    name: str, how: str, path: Path, seen: Mapping[int, str], *, sealed: bool = True
) -> None:
    with dgrec.open(path) as session:
        other, without = differing(session, dict(seen))
        rows = len(session)
    problems = len(verify(path)) if sealed else 0
    print(
        f"{name:14} {how:16} rows {rows:5,}  mismatches {other}  without a picture {without}"
        f"  problems of verify {problems}"
    )


def cost(source: Path, folder: Path, rounds: int) -> None:
    """Print the processor time of each way, and the median of its ratio to decoding alone."""

    def decode() -> None:
        reader = VideoReader(source)
        while reader.read() is not None:
            pass
        reader.release()

    def record(video: str, keeps: bool) -> Callable[[], None]:
        def run() -> None:
            output = folder / f"cost-{time.monotonic_ns()}.parquet"
            record_kept(source, output, video=video, keeps=keeps, digests=False)

        return run

    ways = {
        "decoding alone": decode,
        "recorded, no video": record("none", False),
        "packets kept": record("raw", True),
        "encoded again": record("raw", False),
    }
    spent: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            before = _cpu_s()
            run()
            spent[way].append(_cpu_s() - before)
    print(f"\n{source.name}: processor time, medians of {rounds} rounds")
    for way, seconds in spent.items():
        ratios = [
            mine / alone for mine, alone in zip(seconds, spent["decoding alone"], strict=True)
        ]
        median = statistics.median(seconds)
        print(f"{way:20} {median:6.2f} s  {statistics.median(ratios):.2f} times decoding")


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = chosen.sources
        if not sources:
            made = [encode(folder / each, how, 200) for each, how in FOOTAGE.items()]
            sources = [Path(sample.CLIP), *made]
        for source in sources:
            compare(source.absolute(), folder)
        cost(sources[0].absolute(), folder, chosen.rounds)


if __name__ == "__main__":
    main()
