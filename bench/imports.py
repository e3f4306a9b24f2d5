"""Time and memory of importing files of many lines.

    python -m bench.imports [LINES]

Writes COCO results, MOTChallenge results (sorted by track, as the benchmark does), supervision's
CSV and JSON lines of the payload with LINES detections (a million unless given), ten in a frame,
and a tenth of that; imports each in a process of its own, and prints the processor time and how
much more memory ten times as many lines took.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

_A_FRAME = 10


def _box(number: int) -> list[float]:
    return [number % 1700 + 0.5, number % 1000 + 0.25, 40.125, 60.5]


def coco(lines: int) -> Iterator[str]:
    for number in range(lines):
        item = {
            "image_id": number // _A_FRAME,
            "category_id": number % 80,
            "bbox": _box(number),
            "score": number % 1000 / 1000,
        }
        yield ("[" if not number else ",") + json.dumps(item) + ("" if number < lines - 1 else "]")


def mot(lines: int) -> Iterator[str]:
    frames = lines // _A_FRAME
    for number in range(lines):
        box = ",".join(map(str, _box(number)))
        yield f"{number % frames + 1},{number // frames + 1},{box},0.5,-1,-1,-1"


def csv(lines: int) -> Iterator[str]:
    yield "x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,class_name,frame_number"
    for number in range(lines):
        x, y, width, height = _box(number)
        yield f"{x},{y},{x + width},{y + height},{number % 80},0.5,,car,{number // _A_FRAME}"


def payload(lines: int) -> Iterator[str]:
    for frame in range(lines // _A_FRAME):
        detections = []
        for number in range(_A_FRAME):
            x, y, width, height = _box(frame * _A_FRAME + number)
            box = [x, y, x + width, y + height]
            detections.append({"label": "car", "score": 0.5, "bbox": box})
        yield json.dumps({"timestamp": 1767323045.5 + frame / 30, "detections": detections})


FORMATS: dict[str, Callable[[int], Iterator[str]]] = {
    "coco": coco,
    "mot": mot,
    "csv": csv,
    "payload": payload,
}


def measure(path: str, form: str) -> None:
    """Import a file; print processor seconds, peak memory in MB, and detections."""
    import dgrec

    before = resource.getrusage(resource.RUSAGE_SELF)
    report = dgrec.import_(path, f"{path}.parquet", format=form)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{seconds:.1f} {after.ru_maxrss // 1024} {report.detections}")


def main() -> int:
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
        return 0
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(f"{'format':10} {'lines':>10} {'file':>8} {'CPU':>8} {'peak':>8} {'a tenth':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for form, write in FORMATS.items():
            peaks, seconds, size = [], "", 0
            for count in (lines // 10, lines):
                path = Path(folder) / f"{form}-{count}"
                with path.open("w") as file:
                    file.writelines(f"{line}\n" for line in write(count))
                size = path.stat().st_size
                command = [sys.executable, "-m", "bench.imports", "--measure", str(path), form]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                seconds, peak, detections = done.stdout.split()
                assert int(detections) == count
                peaks.append(int(peak))
                path.unlink()
            print(
                f"{form:10} {lines:10,} {size / 1e6:5.0f} MB {seconds:>6} s {peaks[1]:5} MB "
                f"{peaks[0]:5} MB"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
