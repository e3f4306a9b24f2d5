"""Speed and size of dgrec's recording, next to the tools that engineers use instead.

    python -m bench.write_speed [--frames 9000] [--boxes 10] [--repetitions 5] [--flush 512]

Writes one and the same stream of detections through every tool, in turn, several times over;
reads each file back to see what of the stream it holds; prints medians. Every tool is used as its
own documentation shows for a live stream: frame by frame, since frames come one by one. Those
that let the caller choose are flushed every ``--flush`` frames: all lose as much in a crash. The
recorder flushes twice a second, and every 512 frames if that many have come by then: at the
speeds measured here it is always the latter. ``--flush 15`` is a camera of 30 frames a second.
Tools that are not installed are named and left out (``pip install mcap rerun-sdk supervision``).
"""

from __future__ import annotations

import argparse
import csv
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dgrec.format import Journal, JournalWriter, Row, seal
from dgrec.session import open_session
from tests.factory import CLOSING, START_NS, new_metadata, smooth_boxes


class Frame(NamedTuple):
    """What there is to record: when the frame was captured, and the model's results."""

    stamp_ns: int
    results: list[dict[str, Any]]


@dataclass
class Stream:
    """Frames, and after how many of them what was recorded so far is to be in the file."""

    frames: list[Frame]
    flush: int


def make_stream(frames: int, boxes: int) -> list[Frame]:
    """Return the stream: moving boxes, scores with noise in every frame, jittered stamps."""
    rng = np.random.default_rng(1)
    # Stamps in whole microseconds, as the clocks of cameras and capture libraries give them.
    jitter = rng.normal(0, 500, frames).astype(int)
    stamps = [START_NS + (33_367 * i + int(jitter[i])) * 1000 for i in range(frames)]
    return [Frame(*pair) for pair in zip(stamps, smooth_boxes(frames, boxes, seed=1), strict=True)]


# --- the tools ---------------------------------------------------------------------------------


def write_dgrec(stream: Stream, path: Path) -> None:
    """Write the journal as the recorder does, then seal it; both are in the time."""
    journal = path.with_suffix(".arrows")
    writer = JournalWriter(journal, new_metadata(), durability="never")
    waiting: list[Row] = []
    for index, (stamp, results) in enumerate(stream.frames):
        waiting.append(
            Row(
                source_frame=index,
                media_time_s=None,
                captured_ns=stamp,
                completed_ns=stamp,
                read_ns=0,
                recorder_ns=0,
                width=1920,
                height=1080,
                results=results,
                timing={},
            )
        )
        if len(waiting) == stream.flush:
            writer.write(waiting)
            waiting = []
    if waiting:
        writer.write(waiting)
    writer.end(CLOSING)
    writer.close()
    seal(Journal.open(journal), path)
    journal.unlink()


def read_dgrec(path: Path) -> Iterator[Frame]:
    with open_session(path) as session:
        for frame in session:
            stamp = int(np.datetime64(frame.captured_at.replace(tzinfo=None), "ns").astype(int))
            yield Frame(stamp, frame.results)


def write_json_lines(stream: Stream, path: Path) -> None:
    with path.open("w") as file:
        for index, (stamp, results) in enumerate(stream.frames):
            file.write(json.dumps({"stamp_ns": stamp, "results": results}) + "\n")
            if index % stream.flush == stream.flush - 1:
                file.flush()


def read_json_lines(path: Path) -> Iterator[Frame]:
    with path.open() as file:
        for line in file:
            value = json.loads(line)
            yield Frame(value["stamp_ns"], value["results"])


def write_mcap(stream: Stream, path: Path) -> None:
    """Writer, schema, channel and messages as in the MCAP Python guide; zstd chunks (default)."""
    from mcap.writer import CompressionType, Writer

    with path.open("wb") as file:
        writer = Writer(file, compression=CompressionType.ZSTD)
        writer.start()
        schema_id = writer.register_schema(
            name="detections", encoding="jsonschema", data=b'{"type": "object"}'
        )
        channel_id = writer.register_channel(
            schema_id=schema_id, topic="detections", message_encoding="json"
        )
        for stamp, results in stream.frames:
            writer.add_message(
                channel_id=channel_id,
                log_time=stamp,
                data=json.dumps({"results": results}).encode(),
                publish_time=stamp,
            )
        writer.finish()


def read_mcap(path: Path) -> Iterator[Frame]:
    from mcap.reader import make_reader

    with path.open("rb") as file:
        for _, _, message in make_reader(file).iter_messages():
            yield Frame(message.log_time, json.loads(message.data)["results"])


def _corners(results: list[dict[str, Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([d["bbox"] for d in results], np.float64).reshape(-1, 4)


def write_rerun(stream: Stream, path: Path) -> None:
    """One `log` a frame, the way Rerun's object detection example does; scores as AnyValues."""
    import rerun as rr

    recording = rr.RecordingStream("dgrec_bench")
    recording.save(path)
    for stamp, results in stream.frames:
        recording.set_time("captured", timestamp=np.datetime64(stamp, "ns"))
        recording.log(
            "detections",
            rr.Boxes2D(
                array=_corners(results),
                array_format=rr.Box2DFormat.XYXY,
                class_ids=[d["category_id"] for d in results],
                labels=[d["label"] for d in results],
            ),
            rr.AnyValues(score=[d["score"] for d in results]),
        )
    recording.flush()
    recording.disconnect()


def write_rerun_columns(stream: Stream, path: Path) -> None:
    """Rerun's faster way: many frames at a time with `send_columns`."""
    import rerun as rr

    recording = rr.RecordingStream("dgrec_bench")
    recording.save(path)
    for start in range(0, len(stream.frames), stream.flush):
        frames = stream.frames[start : start + stream.flush]
        flat = [d for _, results in frames for d in results]
        lengths = [len(results) for _, results in frames]
        corners = _corners(flat)
        stamps = np.array([stamp for stamp, _ in frames], "datetime64[ns]")
        recording.send_columns(
            "detections",
            indexes=[rr.TimeColumn("captured", timestamp=stamps)],
            columns=[
                *rr.Boxes2D.columns(
                    centers=(corners[:, :2] + corners[:, 2:]) / 2,
                    half_sizes=(corners[:, 2:] - corners[:, :2]) / 2,
                    labels=[d["label"] for d in flat],
                    class_ids=[d["category_id"] for d in flat],
                ).partition(lengths),
                *rr.AnyValues.columns(score=[d["score"] for d in flat]).partition(lengths),
            ],
        )
    recording.flush()
    recording.disconnect()


def read_rerun(path: Path) -> Iterator[Frame]:
    from rerun.chunk import RrdReader

    frames = []
    for chunk in RrdReader(path).stream().collect().stream():
        batch = chunk.to_record_batch()
        if "captured" not in batch.schema.names or "score" not in batch.schema.names:
            continue
        names = ("centers", "half_sizes", "class_ids", "labels")
        rows = {name: batch.column(f"Boxes2D:{name}").to_pylist() for name in names}
        rows["score"] = batch.column("score").to_pylist()
        for index, stamp in enumerate(batch.column("captured").cast("int64").to_pylist()):
            found = zip(
                rows["centers"][index],
                rows["half_sizes"][index],
                rows["class_ids"][index],
                rows["labels"][index],
                rows["score"][index],
                strict=True,
            )
            results = [
                {
                    "bbox": [c[0] - h[0], c[1] - h[1], c[0] + h[0], c[1] + h[1]],
                    "category_id": class_id,
                    "label": label,
                    "score": score,
                }
                for c, h, class_id, label, score in found
            ]
            frames.append(Frame(stamp, results))
    yield from sorted(frames, key=lambda frame: frame.stamp_ns)


def _supervision_detections(results: list[dict[str, Any]]) -> Any:
    import supervision as sv

    # The types of its own connectors (from_ultralytics and the others): float32 arrays.
    return sv.Detections(
        xyxy=_corners(results).astype(np.float32),
        confidence=np.array([d["score"] for d in results], np.float32),
        class_id=np.array([d["category_id"] for d in results], int),
        data={"class_name": np.array([d["label"] for d in results])},
    )


def write_csv_sink(stream: Stream, path: Path) -> None:
    import supervision as sv

    with sv.CSVSink(str(path)) as sink:
        for index, (stamp, results) in enumerate(stream.frames):
            detections = _supervision_detections(results)
            sink.append(detections, custom_data={"frame": index, "stamp_ns": stamp})


def write_json_sink(stream: Stream, path: Path) -> None:
    import supervision as sv

    with sv.JSONSink(str(path)) as sink:
        for index, (stamp, results) in enumerate(stream.frames):
            detections = _supervision_detections(results)
            sink.append(detections, custom_data={"frame": index, "stamp_ns": stamp})


def _frames_of_rows(rows: Iterator[dict[str, Any]]) -> Iterator[Frame]:
    """Gather supervision's one row per detection into frames again."""
    stamp, results = None, []
    for row in rows:
        if stamp is not None and int(row["stamp_ns"]) != stamp:
            yield Frame(stamp, results)
            results = []
        stamp = int(row["stamp_ns"])
        corners = [row[name] for name in ("x_min", "y_min", "x_max", "y_max")]
        results.append(
            {
                "bbox": [_float32(text) for text in corners],
                "category_id": int(row["class_id"]),
                "label": row["class_name"],
                "score": _float32(row["confidence"]),
            }
        )
    if stamp is not None:
        yield Frame(stamp, results)


def _float32(text: Any) -> float:
    """Return a number that was printed as float32: "0.1" is the float32 nearest to it."""
    return float(np.float32(text))


def read_csv_sink(path: Path) -> Iterator[Frame]:
    with path.open(newline="") as file:
        yield from _frames_of_rows(csv.DictReader(file))


def read_json_sink(path: Path) -> Iterator[Frame]:
    yield from _frames_of_rows(iter(json.loads(path.read_text())))


# --- what a file gives back --------------------------------------------------------------------


def losses(stream: Stream, read: Iterator[Frame]) -> str:
    """Return what a file does not give back of the stream it was written from, "" if nothing."""
    found = list(read)
    if len(found) != len(stream.frames):
        return f"{len(found)} of {len(stream.frames)} frames"
    worst: dict[str, float] = {}
    for written, back in zip(stream.frames, found, strict=True):
        if written.stamp_ns != back.stamp_ns:
            worst["stamp_ns"] = 1
        if len(written.results) != len(back.results):
            return "detections are missing"
        for one, other in zip(written.results, back.results, strict=True):
            if one == other and list(one) == list(other):
                continue
            for key, value in one.items():
                if value != other.get(key):
                    is_text = isinstance(value, str)
                    off = 1.0 if is_text else float(np.abs(np.subtract(value, other[key])).max())
                    worst[key] = max(worst.get(key, 0.0), off)
    lost = [f"{key} off by up to {off:.1g}" for key, off in worst.items()]
    return "; ".join(lost)


def loses_empty_frames(tool: Tool, stream: Stream, folder: Path) -> bool:
    """Return whether a frame in which nothing was found is missing from the file."""
    first, second, third = stream.frames[:3]
    path = folder / f"empty-{tool.name.replace(' ', '-')}{tool.suffix}"
    tool.write(Stream([first, Frame(second.stamp_ns, []), third], stream.flush), path)
    return second.stamp_ns not in [frame.stamp_ns for frame in tool.read(path)]


@dataclass
class Tool:
    """A way of recording the stream."""

    name: str
    package: str
    suffix: str
    write: Callable[[Stream, Path], None]
    read: Callable[[Path], Iterator[Frame]]
    #: Whether the caller must collect frames into columns before the tool takes them.
    gathers: bool = False
    #: What the format as such cannot hold, whatever this stream happens to contain.
    beyond: str = ""
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    size: int = 0
    lost: str = ""


JSON_BEYOND = "no NumPy values, NaN, tuples, masks"
ONLY_FLOAT32 = "float32 only; no other keys"

TOOLS = [
    Tool("dgrec", "dgrec", ".parquet", write_dgrec, read_dgrec),
    Tool("JSON lines", "", ".jsonl", write_json_lines, read_json_lines, beyond=JSON_BEYOND),
    Tool("MCAP (JSON, zstd)", "mcap", ".mcap", write_mcap, read_mcap, beyond=JSON_BEYOND),
    Tool("Rerun log", "rerun-sdk", ".rrd", write_rerun, read_rerun, beyond=ONLY_FLOAT32),
    Tool(
        "Rerun send_columns",
        "rerun-sdk",
        ".rrd",
        write_rerun_columns,
        read_rerun,
        gathers=True,
        beyond=ONLY_FLOAT32,
    ),
    Tool(
        "supervision CSVSink",
        "supervision",
        ".csv",
        write_csv_sink,
        read_csv_sink,
        beyond=ONLY_FLOAT32,
    ),
    Tool(
        "supervision JSONSink",
        "supervision",
        ".json",
        write_json_sink,
        read_json_sink,
        beyond=ONLY_FLOAT32,
    ),
]


def installed(tools: list[Tool]) -> list[Tool]:
    present = []
    for tool in tools:
        if tool.package in ("", "dgrec"):
            present.append(tool)
            continue
        try:
            version = importlib.metadata.version(tool.package)
        except importlib.metadata.PackageNotFoundError:
            print(f"{tool.name}: {tool.package} is not installed; left out")
            continue
        print(f"{tool.name}: {tool.package} {version}")
        present.append(tool)
    return present


def measure(tool: Tool, stream: Stream, folder: Path, last: bool) -> None:
    path = folder / f"{len(tool.seconds)}-{tool.name.replace(' ', '-')}{tool.suffix}"
    gc.collect()
    started, cpu_started = time.perf_counter(), time.process_time()
    tool.write(stream, path)
    tool.seconds.append(time.perf_counter() - started)
    tool.cpu_seconds.append(time.process_time() - cpu_started)
    tool.size = path.stat().st_size
    if last:
        tool.lost = losses(stream, tool.read(path))
    path.unlink()


def report(tools: list[Tool], frames: int, detections: int) -> None:
    medians = {tool.name: statistics.median(tool.seconds) for tool in tools}
    print(
        f"\n{'':22}{'frames/s':>9}{'(slowest - fastest)':>22}{'CPU us/frame':>14}"
        f"{'B/detection':>13}  lossless here"
    )
    for tool in tools:
        rates = sorted(frames / seconds for seconds in tool.seconds)
        spread = f"({rates[0]:,.0f} - {rates[-1]:,.0f})"
        cpu = statistics.median(tool.cpu_seconds) / frames * 1e6
        kept = "yes" if not tool.lost else f"no: {tool.lost}"
        if tool.beyond:
            kept += f" [format: {tool.beyond}]"
        print(
            f"{tool.name:22}{frames / medians[tool.name]:9,.0f}{spread:>22}"
            f"{cpu:14.1f}{tool.size / detections:13.1f}  {kept}"
        )
    others = [tool for tool in tools if tool.name != "dgrec"]
    print()
    for title, group in (
        ("tools that take frame by frame", [tool for tool in others if not tool.gathers]),
        ("tools that lose nothing here", [tool for tool in others if not tool.lost]),
        ("all others", others),
    ):
        fastest = min(group, key=lambda tool: medians[tool.name])
        ratio = medians[fastest.name] / medians["dgrec"]
        cpu = statistics.median(fastest.cpu_seconds) / statistics.median(tools[0].cpu_seconds)
        print(
            f"dgrec is {ratio:.2f} times as fast as the fastest of {title}, {fastest.name} "
            f"({cpu:.2f} times by CPU time)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=9000)
    parser.add_argument("--boxes", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--flush", type=int, default=512)
    arguments = parser.parse_args()
    tools = installed(TOOLS)
    stream = Stream(make_stream(arguments.frames, arguments.boxes), arguments.flush)
    warm_up = Stream(stream.frames[:300], arguments.flush)
    print(
        f"{arguments.frames} frames x {arguments.boxes} boxes, {arguments.repetitions} repetitions "
        f"in turn, a flush every {arguments.flush} frames, Python {platform.python_version()}, "
        f"{os.cpu_count()} CPUs"
    )
    with tempfile.TemporaryDirectory() as folder:
        for tool in tools:  # imports, code paths and file caches are warm for everyone
            measure(tool, warm_up, Path(folder), last=False)
            if loses_empty_frames(tool, stream, Path(folder)):
                tool.beyond = f"{tool.beyond}; frames without detections leave no trace"
            tool.seconds.clear()
            tool.cpu_seconds.clear()
        for repetition in range(arguments.repetitions):
            for tool in tools:
                last = repetition == arguments.repetitions - 1
                measure(tool, stream, Path(folder), last)
    report(tools, arguments.frames, arguments.frames * arguments.boxes)


if __name__ == "__main__":
    main()
