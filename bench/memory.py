"""Peak memory of recording, sealing and reading a session, against its length.

    python -m bench.memory [--frames 20000] [--boxes 20]

Each length runs in a process of its own. Memory that grew with the length would end a recording
of days; what is held is one flush while recording and one row group afterwards.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from dgrec.format import Journal, JournalWriter, seal
from dgrec.session import open_session
from tests.factory import CLOSING, make_row, new_metadata, smooth_boxes

_BATCH = 100


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def run(folder: Path, frames: int, boxes: int) -> None:
    """Record, seal and read ``frames`` frames; print the peak after each."""
    results = smooth_boxes(_BATCH, boxes)
    journal = folder / "a.arrows"
    sealed = folder / "a.parquet"
    peaks = [peak_mb()]
    writer = JournalWriter(journal, new_metadata(), durability="never")
    for start in range(0, frames, _BATCH):
        writer.write([make_row(start + i, found) for i, found in enumerate(results)])
    writer.end(CLOSING)
    writer.close()
    peaks.append(peak_mb())
    seal(Journal.open(journal), sealed)
    peaks.append(peak_mb())
    with open_session(sealed) as session:
        counted = sum(batch.num_rows for batch in session.batches())
    assert counted == frames
    peaks.append(peak_mb())
    print(*peaks, journal.stat().st_size >> 20, sealed.stat().st_size >> 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--boxes", type=int, default=20)
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.run:
            run(Path(folder), arguments.run, arguments.boxes)
            return
    print(f"{'':18}{'peak MB:':>9}{'start':>7}{'recorded':>10}{'sealed':>8}{'read':>6}", end="")
    print(f"{'journal MB':>12}{'sealed MB':>11}")
    for factor in (1, 4, 16):
        frames = arguments.frames * factor
        command = [sys.executable, "-m", "bench.memory", "--run", str(frames)]
        command += ["--boxes", str(arguments.boxes)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        start, recorded, sealed, read, journal_mb, sealed_mb = output.split()
        print(f"{factor:3}x {frames:9,} frames  {'':4}{start:>7}{recorded:>10}{sealed:>8}", end="")
        print(f"{read:>6}{journal_mb:>12}{sealed_mb:>11}")


if __name__ == "__main__":
    main()
