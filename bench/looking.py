"""The cost of pages that look on for a recording, and their delay.

    python -m bench.looking [--pairs 3] [--frames 400] [--source camera]

Records with the bundled model, of a camera of 30 frames a second (JPEG over HTTP) or of the sample
as fast as the model runs (``--source file``): without `--view`, with it and no page, one page, and
five of which one does not read. A page asks for the newest frame again and again, and listens to
what happens, as the real one does. Prints the rate and ``recorder_ms`` of each, the ratios to the
recording without, and how long after its capture, and after its result, a picture was at a page.
Exits with 1 if a recording of the sample lacks frames.
"""

from __future__ import annotations

import argparse
import http.client
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import dgrec
from dgrec import sample
from tests.recorder.network_camera import MjpegCamera

_ADDRESS = re.compile(r"Look at it while it is recorded: (http://\S+)")
_QUERY = """\
SELECT rate(captured_at, completed_at), avg(recorder_ms), median(recorder_ms),
       quantile_cont(latency_ms, 0.5), count(*)
FROM frames WHERE frame >= 50"""


@dataclass
class Looks:
    """What the pages got."""

    #: When each picture was captured, and how many milliseconds later a page had it.
    pictures: list[tuple[int, float]] = field(default_factory=list)


def look(address: str, looks: Looks, is_over: threading.Event) -> None:
    """Ask for one picture after the other."""
    url = urlsplit(address)
    after = 0
    with closing(http.client.HTTPConnection(url.netloc, timeout=30)) as connection:
        while not is_over.is_set():
            with suppress(OSError, http.client.HTTPException):
                connection.request("GET", f"/api/newest?s=s&after={after}&{url.query}")
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    after = int(answer.headers["X-Captured-Us"])
                    looks.pictures.append((after, (time.time() * 1e6 - after) / 1000))
                    continue
            connection.close()
            time.sleep(0.2)


def listen(address: str, is_over: threading.Event) -> None:
    """Read what happens, line by line, as it comes."""
    url = urlsplit(address)
    while not is_over.wait(0.2):  # at first there is nothing to listen to
        with suppress(OSError), closing(http.client.HTTPConnection(url.netloc, timeout=5)) as of:
            of.request("GET", f"/api/live?s=s&{url.query}")
            answer = of.getresponse()
            while not is_over.is_set() and answer.fp.readline():
                pass


@contextmanager
def pages(address: str, count: int, looks: Looks) -> Iterator[None]:
    """Open pages; of five, the last does not read."""
    is_over = threading.Event()
    url = urlsplit(address)
    reading = count - 1 if count > 1 else count
    threads = [
        threading.Thread(target=work, args=arguments, daemon=True)
        for _ in range(reading)
        for work, arguments in ((look, (address, looks, is_over)), (listen, (address, is_over)))
    ]
    for thread in threads:
        thread.start()
    silent = [socket.create_connection((url.hostname, url.port)) for _ in range(count - reading)]
    for client in silent:
        client.sendall(
            f"GET /api/live?s=s&{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode()
        )
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
        for client in silent:
            client.close()


@dataclass(frozen=True)
class Run:
    fps: float
    mean_recorder_ms: float
    median_recorder_ms: float
    latency_ms: float
    frames: int


def record(folder: Path, source: Sequence[str], frames: int, count: int | None) -> Run:
    """Record with some pages; None: without `--view`."""
    path, looks = folder / "s.parquet", Looks()
    command = [
        *(sys.executable, "-m", "dgrec", "record", *source, "--video", "none", "--overwrite"),
        *("--max-frames", str(frames), "-o", str(path), *([] if count is None else ["--view"])),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    if count is not None:
        found = None
        while found is None:
            found = _ADDRESS.search(process.stderr.readline())
        with pages(found[1].partition("#")[0], count, looks):
            process.communicate(timeout=600)
    else:
        process.communicate(timeout=600)
    with dgrec.open(path) as session:
        run = Run(*session.sql_rows(_QUERY)[0])
        done = dict(session.sql_rows("SELECT epoch_us(captured_at), latency_ms FROM frames"))
    if looks.pictures:
        ages = [age for _, age in looks.pictures]
        results = [age - done[us] for us, age in looks.pictures if us in done]
        print(
            f"{count} pages: {len(ages)} pictures, after capture {_spread(ages)}, "
            f"after the result {_spread(results)}",
            flush=True,
        )
    return run


def _spread(values: list[float]) -> str:
    ordered = sorted(values)
    p95 = ordered[int(len(ordered) * 0.95)]
    return f"median {statistics.median(ordered):.0f} p95 {p95:.0f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--source", choices=["camera", "file"], default="camera")
    arguments = parser.parse_args()
    ways: list[int | None] = [None, 0, 1, 5]
    runs: dict[int | None, list[Run]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as place, MjpegCamera(30) as camera:
        source = [camera.url] if arguments.source == "camera" else [str(sample.CLIP), "--loop"]
        record(Path(place), source, 60, None)  # what is read for the first time
        for number in range(arguments.pairs):
            for way in ways[:: 1 if number % 2 else -1]:
                run = record(Path(place), source, arguments.frames, way)
                runs[way].append(run)
                print(f"{'no view' if way is None else f'{way} pages':8} {run}", flush=True)
    for way in ways[1:]:
        for name in ("fps", "mean_recorder_ms", "median_recorder_ms", "latency_ms"):
            ratios = sorted(
                getattr(run, name) / getattr(plain, name)
                for run, plain in zip(runs[way], runs[None], strict=True)
            )
            print(
                f"{way} pages, {name}: {statistics.median(ratios):.3f} "
                f"({ratios[0]:.3f} to {ratios[-1]:.3f})"
            )
    wanted = arguments.frames - 50
    lacking = [run for each in runs.values() for run in each if run.frames != wanted]
    return 1 if lacking and arguments.source == "file" else 0


if __name__ == "__main__":
    sys.exit(main())
