"""Small valid files of every format that can be imported, by their own writers where there are."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["BOXES", "RLE", "inputs"]

#: Frame, track, label, score and corners of what all files hold: frame 1 has nothing.
BOXES: list[tuple[int, int, str, float, list[float]]] = [
    (0, 7, "person", 0.75, [10.0, 20.5, 110.0, 220.5]),
    (0, 8, "car", 0.5, [300.25, 40.0, 420.25, 90.0]),
    (2, 7, "person", 0.625, [14.0, 21.5, 114.0, 221.5]),
    (3, 8, "car", 0.875, [310.0, 42.0, 430.0, 92.0]),
]
LABELS = ("person", "car")
SIZE = (640, 480)


def _mask() -> np.ndarray[Any, Any]:
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    mask[30:50, 100:180] = 1
    mask[35, 120] = 0
    return mask


def _rle() -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    found = coco_mask.encode(np.asfortranarray(_mask()))
    return {"size": list(map(int, found["size"])), "counts": found["counts"].decode()}


RLE = _rle()


def inputs(folder: Path) -> dict[str, Path]:
    """Write the files and return them by name; what is before a hyphen is the format."""
    made = {
        "coco.json": json.dumps(coco()).encode(),
        "coco-results.json": json.dumps(results()).encode(),
        "mot-gt.txt": mot(truth=True).encode(),
        "mot-results.txt": mot(truth=False).encode(),
        "payload-guide.jsonl": _lines(payloads("guide")),
        "payload-full.jsonl": _lines(payloads("full")),
        "ultralytics.json": ultralytics().encode(),
        "ultralytics-web.json": json.dumps(web_answer()).encode(),
        "cvat-video.xml": cvat_video().encode(),
        "cvat-images.xml": cvat_images().encode(),
        "cvat-archive.zip": archive(cvat_video()),
        "fiftyone-samples.json": json.dumps(samples()).encode(),
        "fiftyone-frames.json": json.dumps(sample_frames()).encode(),
        "fiftyone-labels.json": json.dumps(image_labels()).encode(),
        "fiftyone-video.json": json.dumps(video_frames()).encode(),
        "mcap-protobuf.mcap": mcap_protobuf(),
        "mcap-json.mcap": mcap_json(),
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    supervision(folder)
    names = [*made, "csv.csv", "supervision-json.json"]
    return {name.rpartition(".")[0]: folder / name for name in names}


def _lines(items: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(item) + "\n" for item in items).encode()


def _xywh(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def coco() -> dict[str, Any]:
    annotations: list[dict[str, Any]] = [
        {
            "id": at + 1,
            "image_id": frame + 100,
            "category_id": LABELS.index(label) + 1,
            "bbox": _xywh(box),
            "area": 1.0,
            "iscrowd": 0,
            "track_id": track,
        }
        for at, (frame, track, label, _, box) in enumerate(BOXES)
    ]
    annotations[0] |= {"keypoints": [12, 22, 2, 0, 0, 0, 50, 60, 1], "num_keypoints": 2}
    annotations[1] |= {"segmentation": RLE, "iscrowd": 1}
    annotations[2] |= {"segmentation": [[14, 21.5, 114, 21.5, 114, 221.5]]}
    return {
        "info": {"description": "four boxes"},
        # Before the pictures and categories that they name.
        "annotations": annotations[::-1],
        "images": [
            {"id": n + 100, "file_name": f"frame_{n:06}.jpg", "width": SIZE[0], "height": SIZE[1]}
            for n in range(4)
        ],
        "categories": [
            {"id": 1, "name": "person", "keypoints": ["nose", "eye", "ear"], "skeleton": []},
            {"id": 2, "name": "car", "supercategory": "vehicle"},
        ],
    }


def results() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "image_id": frame,
            "category_id": LABELS.index(label),
            "bbox": _xywh(box),
            "score": score,
        }
        for frame, _, label, score, box in BOXES
    ]
    found[0]["segmentation"] = RLE
    found[1]["keypoints"] = [301.0, 41.0, 0.5]
    return found


def mot(*, truth: bool) -> str:
    lines = []
    # The benchmark sorts by track.
    for frame, track, label, score, box in sorted(BOXES, key=lambda each: each[1]):
        numbers = [frame + 1, track, *_xywh(box)]
        numbers += [1, 1 + 2 * LABELS.index(label), 0.5] if truth else [score, -1, -1, -1]
        lines.append(",".join(f"{n:g}" for n in numbers))
    return "\n".join(lines) + "\n"


def payloads(form: str) -> list[dict[str, Any]]:
    found = []
    for number in range(4):
        detections = [
            {"label": label, "score": score, "bbox": box}
            | ({"track_id": track, "category_id": LABELS.index(label)} if form == "full" else {})
            for frame, track, label, score, box in BOXES
            if frame == number
        ]
        at = 1767323045.5 + number / 4
        item: dict[str, Any] = {"timestamp": at, "detections": detections}
        if form == "full":
            item |= {
                "session": "cam0",
                "source_frame": number * 2,
                "media_time_s": number / 2,
                "captured_at": f"2026-01-02T03:04:0{number}.250000Z",
                "completed_at": f"2026-01-02T03:04:0{number}.300000Z",
                "latency_ms": 50.0,
                "inference_ms": 7.5,
                "width": SIZE[0],
                "height": SIZE[1],
                "attributes": {"zone_counts": [1, 2]},
            }
        found.append(item)
    return found


def ultralytics() -> str:
    """Return what ``Results.to_json()`` gives for each picture, one after the other."""
    pictures = []
    for number in range(4):
        found = [
            {
                "name": label,
                "class": LABELS.index(label),
                "confidence": score,
                "box": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
                "track_id": track,
            }
            for frame, track, label, score, box in BOXES
            if frame == number
        ]
        if number == 3:
            found[0]["segments"] = {"x": [310.0, 430.0, 430.0], "y": [42.0, 42.0, 92.0]}
            found[0]["keypoints"] = {"x": [320.0], "y": [50.0], "visible": [0.75]}
        pictures.append(json.dumps(found, indent=2))
    return "\n".join(pictures) + "\n"


def web_answer() -> dict[str, Any]:
    pictures = list(_values(ultralytics()))
    return {
        "images": [
            {"results": found, "shape": [SIZE[1], SIZE[0]], "speed": {"inference": 7.5}}
            for found in pictures
        ],
        "metadata": {"imageCount": 4},
    }


def _values(text: str) -> list[Any]:
    found, at, decoder = [], 0, json.JSONDecoder()
    while at < len(text.rstrip()):
        value, at = decoder.raw_decode(text, at)
        at += 1
        found.append(value)
    return found


_META = """<meta><task><id>1</id><name>walk</name><size>{size}</size><mode>{mode}</mode>
<start_frame>0</start_frame><frame_filter></frame_filter>
<labels><label><name>person</name><type>any</type></label><label><name>car</name></label></labels>
<original_size><width>640</width><height>480</height></original_size></task></meta>"""


def cvat_video() -> str:
    tracks = []
    for track in (7, 8):
        shapes = ""
        label = ""
        for frame, of, label_, score, box in BOXES:
            if of != track:
                continue
            label = label_
            x1, y1, x2, y2 = box
            shapes += (
                f'<box frame="{frame}" keyframe="1" outside="0" occluded="{frame // 2}" '
                f'xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" z_order="0">\n'
                f'<attribute name="score">{score}</attribute>\n'
                '<attribute name="colour">r&amp;b</attribute>\n</box>\n'
            )
        shapes += '<box frame="4" outside="1" xtl="1" ytl="1" xbr="2" ybr="2"></box>\n'
        tracks.append(f'<track id="{track}" label="{label}" source="manual">\n{shapes}</track>\n')
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
    return f"{head}{_META.format(size=4, mode='interpolation')}{''.join(tracks)}</annotations>\n"


def cvat_images() -> str:
    images = ""
    for number in range(4):
        shapes = "".join(
            f'<box label="{label}" occluded="0" xtl="{box[0]}" ytl="{box[1]}" xbr="{box[2]}" '
            f'ybr="{box[3]}"></box>'
            for frame, _, label, _, box in BOXES
            if frame == number
        )
        if number == 1:
            shapes += '<mask label="car" rle="1,3,2" left="5" top="6" width="3" height="2"></mask>'
            shapes += '<polygon label="car" points="1,2;30,4;5,60.5"></polygon>'
            shapes += '<points label="car" points="1,2"></points>'
        images += (
            f'<image id="{number}" name="frame_{number:06}.PNG" width="640" height="480">'
            f"{shapes}</image>\n"
        )
    return f"<annotations>{_META.format(size=4, mode='annotation')}{images}</annotations>"


def archive(xml: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("annotations.xml", xml)
    return data.getvalue()


def _fiftyone(number: int) -> list[dict[str, Any]]:
    return [
        {
            "_id": {"$oid": "66a0"},
            "_cls": "Detection",
            "attributes": {},
            "tags": [],
            "label": label,
            "bounding_box": [n / SIZE[at % 2] for at, n in enumerate(_xywh(box))],
            "confidence": score,
            "index": track,
            "mask": None,
        }
        for frame, track, label, score, box in BOXES
        if frame == number
    ]


def samples() -> dict[str, Any]:
    return {
        "samples": [
            {
                "filepath": f"data/frame_{number:06}.jpg",
                "tags": ["validation"],
                "metadata": {"_cls": "ImageMetadata", "width": SIZE[0], "height": SIZE[1]},
                "ground_truth": {"_cls": "Detections", "detections": _fiftyone(number)},
            }
            for number in range(4)
        ]
    }


def sample_frames() -> dict[str, Any]:
    return {
        "frames": [
            {
                "frame_number": number + 1,
                "_sample_id": {"$oid": "66a1"},
                "detections": {"_cls": "Detections", "detections": _fiftyone(number)},
            }
            for number in range(4)
        ]
    }


def video_frames() -> dict[str, Any]:
    """Return the frames of a video as the older form of a data set has them."""
    found = sample_frames()["frames"]
    return {"frames": {str(each.pop("frame_number")): each for each in found}}


def image_labels() -> dict[str, Any]:
    return {
        "classes": list(LABELS),
        "labels": {
            f"frame_{number:06}": [
                {**each, "label": LABELS.index(each["label"])} for each in _fiftyone(number)
            ]
            or None
            for number in range(4)
        },
    }


def supervision(folder: Path) -> None:
    """Write what supervision's own sinks do."""
    import supervision as sv

    with (
        sv.CSVSink(str(folder / "csv.csv")) as table,
        sv.JSONSink(str(folder / "supervision-json.json")) as lines,
    ):
        for number in range(4):
            found = [each for each in BOXES if each[0] == number]
            if not found:
                continue
            detections = sv.Detections(
                xyxy=np.array([box for *_, box in found]),
                class_id=np.array([LABELS.index(label) for _, _, label, _, _ in found]),
                confidence=np.array([score for _, _, _, score, _ in found]),
                tracker_id=np.array([track for _, track, *_ in found]),
                data={"class_name": np.array([label for _, _, label, _, _ in found])},
            )
            for sink in (table, lines):
                sink.append(detections, {"frame_number": number, "note": "a, b\nc"})


def _corners(box: list[float]) -> list[tuple[float, float]]:
    return [(box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3])]


def mcap_protobuf() -> bytes:
    """Write what Foxglove's SDK does."""
    import foxglove
    from foxglove.channels import ImageAnnotationsChannel
    from foxglove.messages import (
        ImageAnnotations,
        Point2,
        PointsAnnotation,
        PointsAnnotationType,
        TextAnnotation,
        Timestamp,
    )

    data = io.BytesIO()
    context = foxglove.Context()
    with foxglove.open_mcap(data, context=context):
        channel = ImageAnnotationsChannel("/annotations", context=context)
        for number in range(4):
            found = [each for each in BOXES if each[0] == number]
            at = 1767323045 + number
            channel.log(
                ImageAnnotations(
                    points=[
                        PointsAnnotation(
                            timestamp=Timestamp(sec=at),
                            type=PointsAnnotationType.LineLoop,
                            points=[Point2(x=x, y=y) for x, y in _corners(box)],
                        )
                        for *_, box in found
                    ],
                    texts=[
                        TextAnnotation(position=Point2(x=box[0], y=box[1]), text=f"{label} {score}")
                        for _, _, label, score, box in found
                    ],
                ),
                log_time=at * 1_000_000_000 + 50_000_000,
            )
    return data.getvalue()


def mcap_json() -> bytes:
    from mcap.writer import Writer

    data = io.BytesIO()
    writer = Writer(data)
    writer.start()
    schema = writer.register_schema("foxglove.ImageAnnotations", "jsonschema", b"{}")
    channel = writer.register_channel("/found", "json", schema)
    for number in range(4):
        found = [each for each in BOXES if each[0] == number]
        message = {
            "circles": [],
            "points": [
                {
                    "timestamp": {"sec": 0, "nsec": 0},
                    "type": 2,
                    "points": [{"x": x, "y": y} for x, y in _corners(box)],
                }
                for *_, box in found
            ],
            "texts": [
                {"position": {"x": box[0], "y": box[1] - 1}, "text": f"{label}: {score:.1%}"}
                for _, _, label, score, box in found
            ],
        }
        at = (1767323045 + number) * 1_000_000_000
        writer.add_message(channel, at, json.dumps(message).encode(), at)
    writer.finish()
    return data.getvalue()
