"""Exports of 10,000 frames of ten boxes: time and memory, beside what the targets' tools write.

    python -m bench.exports
    python -m bench.exports --frames 40000 --only yolo

The other writers get their detections in memory, in the form that they take; dgrec reads them from
the session. Every measurement is a process of its own. datumaro is left out unless it is installed
(tests/replay/exports/readers.txt).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import dgrec
from tests.factory import make_row, smooth_boxes, write_session

SIZE = (1920, 1080)
BOXES = 10

_Results = list[list[dict[str, Any]]]


def _results(frames: int) -> _Results:
    found = smooth_boxes(frames, BOXES)
    for results in found:
        for box, each in enumerate(results):
            each["track_id"] = box + 1
    return found


def _supervision(results: _Results) -> list[Any]:
    import supervision as sv

    return [
        sv.Detections(
            xyxy=np.array([each["bbox"] for each in frame]),
            class_id=np.array([each["category_id"] for each in frame]),
            confidence=np.array([each["score"] for each in frame]),
            tracker_id=np.array([each["track_id"] for each in frame]),
            data={"class_name": [each["label"] for each in frame]},
        )
        for frame in results
    ]


def _sink(kind: str) -> Callable[[_Results, Path], Callable[[], None]]:
    def prepare(results: _Results, output: Path) -> Callable[[], None]:
        import supervision as sv

        detections = _supervision(results)

        def write() -> None:
            with getattr(sv, kind)(str(output)) as sink:
                for number, found in enumerate(detections):
                    sink.append(found, {"frame_index": number})

        return write

    return prepare


def _supervision_data(kind: str) -> Callable[[_Results, Path], Callable[[], None]]:
    def prepare(results: _Results, output: Path) -> Callable[[], None]:
        # One picture, since only labels are compared; supervision reads its size from each.
        import cv2
        import supervision as sv

        picture = output.with_suffix(".jpg")
        cv2.imwrite(str(picture), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
        names = [str(output.with_name(f"frame-{i:06}.jpg")) for i in range(len(results))]
        for name in names:
            Path(name).symlink_to(picture)
        annotations = dict(zip(names, _supervision(results), strict=True))
        data = sv.DetectionDataset(["person", "car", "bicycle", "dog"], names, annotations)

        def write() -> None:
            if kind == "coco":
                data.as_coco(annotations_path=str(output))
            else:
                data.as_yolo(
                    annotations_directory_path=str(output / "labels"),
                    data_yaml_path=str(output / "data.yaml"),
                )

        return write

    return prepare


def _datumaro(form: str) -> Callable[[_Results, Path], Callable[[], None]]:
    def prepare(results: _Results, output: Path) -> Callable[[], None]:
        import datumaro as dm

        categories = dm.LabelCategories.from_iterable(["person", "car", "bicycle", "dog"])
        items = [
            dm.DatasetItem(
                id=f"frame-{number:06}" if form != "mot_seq_gt" else str(number + 1),
                media=dm.Image.from_numpy(np.zeros((1, 1, 3), np.uint8), size=SIZE[::-1]),
                # Its YOLO wants both.
                subset=("train" if number % 5 else "val") if form == "yolo_ultralytics" else None,
                attributes={"frame": number},
                annotations=[
                    dm.Bbox(
                        each["bbox"][0],
                        each["bbox"][1],
                        each["bbox"][2] - each["bbox"][0],
                        each["bbox"][3] - each["bbox"][1],
                        label=each["category_id"],
                        attributes={"track_id": each["track_id"]},
                    )
                    for each in frame
                ],
            )
            for number, frame in enumerate(results)
        ]
        data = dm.Dataset.from_iterable(
            items, categories={dm.AnnotationType.label: categories}, media_type=dm.Image
        )
        return lambda: data.export(str(output), form, save_media=False)

    return prepare


def _foxglove(results: _Results, output: Path) -> Callable[[], None]:
    import foxglove
    from foxglove import channels, messages

    def write() -> None:
        context = foxglove.Context()
        with foxglove.open_mcap(str(output), context=context):
            channel = channels.ImageAnnotationsChannel("/annotations", context=context)
            metrics = foxglove.Channel("/metrics", message_encoding="json", context=context)
            for number, frame in enumerate(results):
                at = 1_767_323_045_678_901_000 + number * 33_366_700
                stamp = messages.Timestamp(sec=at // 10**9, nsec=at % 10**9)
                points, texts = [], []
                for each in frame:
                    left, top, right, bottom = each["bbox"]
                    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
                    points.append(
                        messages.PointsAnnotation(
                            timestamp=stamp,
                            type=messages.PointsAnnotationType.LineLoop,
                            points=[messages.Point2(x=x, y=y) for x, y in corners],
                            outline_color=messages.Color(r=1, g=0, b=0, a=1),
                            thickness=2.0,
                            metadata=[
                                messages.KeyValuePair(key=key, value=str(each[key]))
                                for key in ("label", "category_id", "score", "track_id")
                            ],
                        )
                    )
                    texts.append(
                        messages.TextAnnotation(
                            timestamp=stamp,
                            position=messages.Point2(x=left, y=top),
                            text=f"{each['label']} {each['score']:.2f}",
                            font_size=12.0,
                        )
                    )
                message = messages.ImageAnnotations(points=points, texts=texts)
                channel.log(message, log_time=at)
                metrics.log(
                    {"frame": number, "detections": len(frame), "latency_ms": 12.5}, log_time=at
                )

    return write


def _rerun(results: _Results, output: Path) -> Callable[[], None]:
    import rerun as rr

    def write() -> None:
        recording = rr.RecordingStream("bench")
        recording.save(str(output))
        for number, frame in enumerate(results):
            recording.set_time("frame", sequence=number)
            recording.log(
                "video/boxes",
                rr.Boxes2D(
                    array=[each["bbox"] for each in frame],
                    array_format=rr.Box2DFormat.XYXY,
                    labels=[each["label"] for each in frame],
                    class_ids=[each["category_id"] for each in frame],
                ),
            )
            recording.log("metrics/latency_ms", rr.Scalars(12.5))
        recording.flush()
        recording.disconnect()

    return write


def _json_lines(results: _Results, output: Path) -> Callable[[], None]:
    def write() -> None:
        with output.open("w") as file:
            for number, frame in enumerate(results):
                for each in frame:
                    file.write(json.dumps({"frame": number, **each}) + "\n")

    return write


#: By dgrec's format: what other tool, and how it writes the same.
OTHERS: dict[str, list[tuple[str, Callable[[_Results, Path], Callable[[], None]]]]] = {
    "csv": [("supervision CSVSink", _sink("CSVSink"))],
    "jsonl": [("json.dumps", _json_lines)],
    "supervision-json": [("supervision JSONSink", _sink("JSONSink"))],
    "parquet-flat": [],
    "coco": [
        ("supervision as_coco", _supervision_data("coco")),
        ("datumaro coco_instances", _datumaro("coco_instances")),
    ],
    "coco-results": [],
    "yolo": [
        ("supervision as_yolo", _supervision_data("yolo")),
        ("datumaro yolo_ultralytics", _datumaro("yolo_ultralytics")),
    ],
    "cvat": [("datumaro cvat", _datumaro("cvat"))],
    "mot": [("datumaro mot_seq_gt", _datumaro("mot_seq_gt"))],
    "mot-results": [],
    "label-studio": [],
    "mcap": [("foxglove-sdk, frame by frame", _foxglove)],
    "rrd": [("rerun-sdk, log", _rerun)],
    "perfetto": [],
    "otel": [],
}


def _measured(send: Any, name: str, other: int | None, frames: int, session: str) -> None:
    """Send seconds, CPU seconds and peak memory of one writer."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out"
        if other is None:
            opened = dgrec.open(session)
            opened.export(
                Path(folder) / "warm", name, end="2", images="none" if _has(name) else None
            )

            def write() -> None:
                opened.export(output, name, images="none" if _has(name) else None)
        else:
            try:
                write = OTHERS[name][other][1](_results(frames), output)
            except ModuleNotFoundError:
                return
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu = time.perf_counter(), time.process_time()
        write()
        took = time.perf_counter() - start, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    send.send((*took, (peak - before) / 1024))


def _has(name: str) -> bool:
    from dgrec.replay.exports import FORMATS

    return len(FORMATS.load()[name].pictures) > 1


def _run(
    name: str, other: int | None, frames: int, session: str
) -> tuple[float, float, float] | None:
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(send, name, other, frames, session))
    process.start()
    send.close()
    try:
        found: tuple[float, float, float] = receive.recv()
    except EOFError:
        return None
    finally:
        process.join()
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--only", choices=sorted(OTHERS))
    options = parser.parse_args()
    slower = []
    print("| format | writer | s | CPU s | grew by MB | dgrec's CPU time is |")
    print("|---|---|--:|--:|--:|---|")
    with tempfile.TemporaryDirectory() as folder:
        session = str(Path(folder) / "session.parquet")
        rows = [
            make_row(i, found, width=SIZE[0], height=SIZE[1])
            for i, found in enumerate(_results(options.frames))
        ]
        write_session(Path(session), rows, batch=512)
        del rows
        for name, others in OTHERS.items():
            if options.only not in (None, name):
                continue
            ours = _run(name, None, options.frames, session)
            assert ours is not None
            print(f"| {name} | dgrec | {ours[0]:.2f} | {ours[1]:.2f} | {ours[2]:.0f} | |")
            for index, (label, _) in enumerate(others):
                theirs = _run(name, index, options.frames, session)
                if theirs is None:
                    print(f"| {name} | {label} | not installed | | | |")
                    continue
                share = ours[1] / theirs[1]
                slower += [label] if share > 1 else []
                numbers = " | ".join(f"{number:.2f}" for number in theirs[:2])
                print(f"| {name} | {label} | {numbers} | {theirs[2]:.0f} | {share:.2f} of its |")
                sys.stdout.flush()
    print(f"slower than: {', '.join(slower) or 'none'}")
    return 1 if slower else 0


if __name__ == "__main__":
    raise SystemExit(main())
