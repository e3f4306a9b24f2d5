"""The cost of publishing for a recording: dead, stalled and healthy targets, and none.

    python -m bench.publishing [--pairs 5] [--frames 400] [--source camera]

Each pair are two recordings with the bundled model, and in turns which is first: of a camera of 30
frames a second (JPEG over HTTP), or of the sample as fast as the model runs (``--source file``),
where whatever else takes processor time takes it from inference. One of the pair publishes to a
broker that is not there, to a web server that never answers, and to one that does. Prints the rate
and ``recorder_ms`` of each, and the ratios of the pairs. Exits with 1 if the healthy target did not
get every frame.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import dgrec
from dgrec import sample
from tests.recorder.broker import free_port, web_server
from tests.recorder.network_camera import MjpegCamera

_QUERY = """\
SELECT rate(captured_at, completed_at), avg(recorder_ms), median(recorder_ms),
       quantile_cont(latency_ms, 0.5)
FROM frames WHERE frame >= 50"""


@dataclass(frozen=True)
class Run:
    fps: float
    mean_recorder_ms: float
    median_recorder_ms: float
    latency_ms: float


def record(path: Path, source: list[str], frames: int, targets: list[str]) -> Run:
    options = [option for target in targets for option in ("--publish", target)]
    subprocess.run(
        [
            *(sys.executable, "-m", "dgrec", "record", *source, "--video", "none"),
            *("--max-frames", str(frames), "--quiet", "--overwrite", "-o", str(path), *options),
        ],
        check=True,
        timeout=600,
    )
    with dgrec.open(path) as session:
        return Run(*session.sql_rows(_QUERY)[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--source", choices=["camera", "file"], default="camera")
    arguments = parser.parse_args()
    release = threading.Event()

    def stall(key: str) -> int:
        release.wait()
        return 200

    pairs: list[tuple[Run, Run]] = []
    missed = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        web_server(stall) as (stalled, _, _),
        web_server(lambda key: 200) as (healthy, taken, _),
        MjpegCamera(30) as camera,
    ):
        source = [camera.url] if arguments.source == "camera" else [str(sample.CLIP), "--loop"]
        path = Path(folder) / "s.parquet"
        dead = f"mqtt://127.0.0.1:{free_port()}/found"
        record(path, source, 100, [])  # what is read for the first time
        try:
            for number in range(arguments.pairs):
                runs = {}
                for targets in ([], [dead, stalled, healthy])[:: 1 if number % 2 else -1]:
                    del taken[:]
                    runs[bool(targets)] = record(path, source, arguments.frames, targets)
                    missed += arguments.frames - len(taken) if targets else 0
                pairs.append((runs[False], runs[True]))
                for run, what in zip(pairs[-1], ("none", "three"), strict=True):
                    print(
                        f"{what:5}  {run.fps:7.1f} fps  latency {run.latency_ms:.1f} ms  "
                        f"recorder_ms mean {run.mean_recorder_ms:.4f} "
                        f"median {run.median_recorder_ms:.4f}",
                        flush=True,
                    )
        finally:
            release.set()
    for name in ("fps", "mean_recorder_ms", "median_recorder_ms", "latency_ms"):
        ratios = sorted(getattr(three, name) / getattr(none, name) for none, three in pairs)
        print(
            f"{name}: three / none {statistics.median(ratios):.3f} "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )
    print(f"frames that the healthy target did not get: {missed}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
