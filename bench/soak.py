"""A day of a camera: memory, open files and the time that sealing takes.

    python -m bench.soak [--frames 2592000] [--boxes 3] [--batch 0]

Records as many frames as 24 hours at 30 frames a second give, as fast as they can be written,
through the recorder's own writer thread into its own journal, seals them, and prints what the
process holds after each quarter. At this speed the writer flushes every MiB: ``--batch 15`` writes
batches of 15 rows instead, which is what half a second of 30 frames a second makes.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from dgrec.format import Row, SealedFile, verify_checksums
from dgrec.recorder.writing import PartedJournal, RowWriter
from tests.factory import CLOSING, START_NS, make_row, smooth_boxes
from tests.recorder.doubles import journal_of, write_rows

_STAGES = tuple(f"Core{stage}Duration_ms" for stage in ("Preprocess", "Inference", "Postprocess"))
_LIMIT_MB = 50
_LIMIT_S = 10.0
# Longer than a row group, or what comes again would compress to nothing and be sealed too fast.
_CYCLE = 20_000


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def handles() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def day(frames: int, boxes: int) -> Iterator[Row]:
    """Yield the rows of a day: boxes that move, and stage times and stamps that jitter."""
    rng = np.random.default_rng(2)
    results = smooth_boxes(_CYCLE, boxes)
    stages = rng.gamma(20, 0.5, (_CYCLE, 3)).tolist()
    jitter = rng.integers(0, 2_000_000, (_CYCLE, 2)).tolist()
    for i in range(frames):
        at = i % _CYCLE
        captured = START_NS + i * 33_333_333 + jitter[at][0]
        yield make_row(
            i,
            results[at],
            captured_ns=captured,
            completed_ns=captured + 15_000_000 + jitter[at][1],
            read_ns=1_000_000 + jitter[at][1] // 3,
            timing=dict(zip(_STAGES, stages[at], strict=True)),
        )


class Figures:
    """What the process holds at each point, printed as it goes."""

    def __init__(self) -> None:
        self.resident: list[float] = []
        self.handles: list[int] = []
        self._started = time.monotonic()

    def take(self, name: str) -> None:
        gc.collect()
        self.resident.append(resident_mb())
        self.handles.append(handles())
        seconds = time.monotonic() - self._started
        print(
            f"{name:>10} {seconds:8.1f} s {self.resident[-1]:8.1f} MB {self.handles[-1]:4} handles",
            flush=True,
        )


def write_all(journal: PartedJournal, rows: Iterable[Row], batch: int) -> None:
    """Write by the writer thread, or in batches of so many rows."""
    if batch:
        waiting = []
        for row in rows:
            waiting.append(row)
            if len(waiting) == batch:
                write_rows(journal, waiting)
                waiting = []
        write_rows(journal, waiting)
        return
    writer = RowWriter(journal, policy="block")
    for row in rows:
        writer.put(row, journal.cutter.segment_of(row.completed_ns))
    writer.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=24 * 3600 * 30)
    parser.add_argument("--boxes", type=int, default=3)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--folder", help="where to write; a temporary folder unless given")
    arguments = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        sealed = Path(name) / "day.parquet"
        journal = journal_of(sealed)
        # A first hundredth: buffers and allocators have then reached their size.
        start, quarter = arguments.frames // 100, arguments.frames // 4
        rows = day(arguments.frames, arguments.boxes)
        for end in (start, *(quarter * n for n in range(1, 4)), arguments.frames):
            write_all(journal, islice(rows, end - journal.frames), arguments.batch)
            figures.take("1/100" if end == start else f"{end / arguments.frames:.0%}")
        journal.end(CLOSING)
        began = time.monotonic()
        journal.seal()
        seconds = time.monotonic() - began
        figures.take("sealed")
        whole = SealedFile(sealed).num_rows == arguments.frames and verify_checksums(sealed)
        print(f"journal {journal.bytes_written / 1e6:,.0f} MB in {journal.flushes:,} batches,")
        print(f"session {sealed.stat().st_size / 1e6:,.0f} MB, sealed in {seconds:.1f} s")
    recording = figures.resident[:-1]
    growth = max(recording[1:]) - recording[0]
    problems = [
        f"memory grew by {growth:.0f} MB while recording" if growth > _LIMIT_MB else "",
        f"sealing took {seconds:.1f} s" if seconds > _LIMIT_S else "",
        f"open files: {figures.handles}" if max(figures.handles) > figures.handles[0] else "",
        "" if whole else "the session is not whole",
    ]
    print(*filter(None, problems) if any(problems) else ("all within the limits",), sep="\n")
    return int(any(problems))


if __name__ == "__main__":
    sys.exit(main())
