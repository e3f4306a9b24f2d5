"""Time a frame, and memory, of questions to recordings of growing length.

    python -m bench.growth [--most 10000000] [--boxes 3]

Sessions of ten thousand frames up to ``--most``, ten times as many each, are written with the
session's own columns and encodings (without checksums: nothing here reads them), one after the
other; each is removed before the next. Every question is asked in a process of its own, which
tells how much memory it took. 10 million frames are four days at 30 a second.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dgrec.format import SCHEMA
from dgrec.format import metadata as metadata_module
from dgrec.format.schema import METADATA_KEY, parquet_encodings
from dgrec.session import Session
from tests.factory import CLOSING, START_NS, new_metadata

#: As in a sealed session.
_ROW_GROUP = 16_384

QUESTIONS = {
    "dgrec stats": "",
    "latency": "FROM end_to_end_latency",
    "by stage": "FROM stage_latency",
    "windows": "SELECT count(*) FROM throughput(60)",
    "warm-up": "FROM warm_up",
    "jitter": "FROM jitter",
    "losses": "FROM losses",
    "stalls": "SELECT count(*) FROM stalls()",
    "late, blame": "SELECT blame, count(*) FROM late_frames() GROUP BY 1",
    "late 10": "FROM late_causes(10)",
    "pipeline": "FROM stage_load",
    "labels": "FROM label_rate",
    "tracks": "SELECT count(*), median(dwell_s) FROM tracks",
}


def write(path: Path, frames: int, boxes: int) -> None:
    """Write a session a row group at a time."""
    schema = SCHEMA.with_metadata(
        {METADATA_KEY: metadata_module.dumps({**new_metadata(), **CLOSING})}
    )
    dictionary, encodings = parquet_encodings(SCHEMA)
    rng = np.random.default_rng(1)
    last = 0
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=dictionary,
        column_encoding=encodings,
    ) as writer:
        for first in range(0, frames, _ROW_GROUP):
            batch, last = _rows(first, min(_ROW_GROUP, frames - first), boxes, rng, last)
            writer.write_table(pa.Table.from_batches([batch], schema))


def _rows(
    first: int, count: int, boxes: int, rng: np.random.Generator, last: int
) -> tuple[pa.RecordBatch, int]:
    frame = np.arange(first, first + count)
    captured = START_NS // 1000 + frame * 33_367 + rng.integers(0, 3000, count)
    inference = rng.gamma(30, 0.4, count) * np.where(rng.random(count) < 0.01, 8, 1)
    waiting = rng.gamma(2, 2.0, count)
    completed = captured + ((inference + waiting + 2) * 1e3).astype(np.int64)
    completed = np.maximum.accumulate(np.maximum(completed, last))
    values = rng.random((4, count * boxes)) * 1000
    number = np.tile(np.arange(boxes), count)
    # A track is there for 10 seconds.
    track = np.repeat(frame // 300, boxes) * boxes + number
    labels = pa.array([("person", "car", "dog", "cat")[i % 4] for i in range(boxes)])
    detection = {
        "label": labels.take(pa.array(number)),
        "category_id": pa.array((number % 4).astype(np.int32)),
        "score": pa.array(rng.random(count * boxes)),
        **dict(zip(("x_min", "y_min", "x_max", "y_max"), map(pa.array, values), strict=True)),
        "track_id": pa.array(track),
    }
    type_ = SCHEMA.field("detections").type.value_type
    nothing = count * boxes
    structs = pa.StructArray.from_arrays(
        [detection.get(f.name, pa.nulls(nothing, f.type)).cast(f.type) for f in type_],
        fields=list(type_),
    )
    offsets = pa.array(np.arange(0, nothing + 1, boxes, dtype=np.int32))
    zeros, constant = np.zeros(count, np.int32), np.full(count, 1.0)
    lost = (rng.random(count) < 0.01).astype(np.int32)
    columns = {
        "frame": frame,
        "source_frame": frame,
        "media_time_s": frame / 30,
        "captured_at": captured,
        "completed_at": completed,
        "read_ms": np.round(rng.gamma(30, 1.0, count) * 4096) / 4096,
        "preprocess_ms": constant,
        "inference_ms": inference,
        "postprocess_ms": constant,
        "latency_ms": np.round((completed - captured) / 1e3 * 4096) / 4096,
        "recorder_ms": np.round(rng.gamma(4, 0.01, count) * 4096) / 4096,
        "skipped_before": zeros,
        "dropped_before": lost,
        "dropped_camera": zeros,
        "dropped_queue": lost,
        "dropped_writer": zeros,
        "width": zeros + 1920,
        "height": zeros + 1080,
    }
    arrays = []
    for field in SCHEMA:
        if field.name == "detections":
            arrays.append(pa.ListArray.from_arrays(offsets, structs, type=field.type))
        elif field.name == "timing":
            empty = pa.array([], field.type.key_type), pa.array([], field.type.item_type)
            arrays.append(pa.MapArray.from_arrays(pa.array([0] * (count + 1), pa.int32()), *empty))
        elif field.name in columns:
            arrays.append(pa.array(columns[field.name]).cast(field.type))
        else:
            arrays.append(pa.nulls(count, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA), int(completed[-1])


def ask(path: Path, query: str) -> None:
    """Answer one question; print its seconds and this process's peak memory in MB."""
    from dgrec.replay.query import SqlReader
    from dgrec.replay.stats import measure

    with Session(path, check=False) as session, SqlReader([session]) as reader:
        start = time.perf_counter()
        if query:
            for batch in reader.stream(query).batches:
                assert batch.num_columns
        else:
            measure(session, reader)
        taken = time.perf_counter() - start
    print(json.dumps([taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--most", type=int, default=10_000_000)
    parser.add_argument("--boxes", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(QUESTIONS), choices=QUESTIONS)
    parser.add_argument("--ask", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask:
        ask(Path(arguments.ask[0]), arguments.ask[1])
        return
    lengths = [10_000]
    while lengths[-1] * 10 <= arguments.most:
        lengths.append(lengths[-1] * 10)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in arguments.only}
    for frames in lengths:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "s.parquet"
            write(path, frames, arguments.boxes)
            print(f"{frames:,} frames: {path.stat().st_size / 1e6:,.0f} MB", flush=True)
            for name in found:
                command = [sys.executable, "-m", "bench.growth", "--ask", str(path)]
                command.append(QUESTIONS[name])
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[name].append(tuple(json.loads(done.stdout)))
    print(f"\n{'':14}us a frame, peak MB of the process")
    print(f"{'question':14}" + "".join(f"{frames:>18,}" for frames in lengths))
    for name, values in found.items():
        cells = (
            f"{seconds / frames * 1e6:10.3f} {peak:6.0f} "
            for (seconds, peak), frames in zip(values, lengths, strict=True)
        )
        print(f"{name:14}" + "".join(cells))


if __name__ == "__main__":
    main()
