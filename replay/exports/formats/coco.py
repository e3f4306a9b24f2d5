"""COCO: instances (a data set) and results (what a detector found)."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.replay.exports import (
    Block,
    Classes,
    Exported,
    ExportFormat,
    has_other_numbers,
    masks_of,
    session_name,
    utf8,
)
from dgrec.replay.exports.formats.json_text import lists, objects, texts, write_joined
from dgrec.units import and_more

#: The number of the model's class 0: COCO's readers keep 0 for the background.
_FIRST = 1
_HOLDS = frozenset("label score landmarks mask float64".split())


class _Annotations:
    """Turns detections into COCO's annotations: the columns, as JSON, of a block at a time."""

    def __init__(self, exported: Exported) -> None:
        self.classes = exported.classes(contiguous=False)
        #: The names and the pairs of connected key points of each class that has some.
        self.points: dict[int, tuple[list[str], list[list[int]]]] = {}
        self._losses = exported.losses

    def columns(self, block: Block) -> dict[str, pa.Array]:
        """Return the columns that instances and results have in common."""
        numbers = self._numbers(block)
        box = block.places()
        columns = {
            "image_id": texts(block.rows.column("frame").take(pa.array(block.row_of))),
            "category_id": texts(pa.array(numbers)),
            "bbox": lists(map(texts, box)),
            "score": texts(block.column("score")),
        }
        if block.has_masks:
            columns |= self._segmentation(block, box)
        if block.column("landmarks").null_count < len(numbers):
            columns |= self._keypoints(block, numbers)
        return columns

    def _numbers(self, block: Block) -> np.ndarray[Any, Any]:
        labels = block.column("label").to_pylist()
        ids = block.column("category_id").to_pylist()
        known: dict[tuple[str | None, int | None], int] = {}
        for pair in zip(labels, ids, strict=True):
            if pair not in known:
                known[pair] = self.classes.number(*pair) + _FIRST
        pairs = zip(labels, ids, strict=True)
        return np.array([known[pair] for pair in pairs], np.int64)

    def _segmentation(self, block: Block, box: list[pa.Array]) -> dict[str, pa.Array]:
        """Return masks as run lengths, and areas; without a mask, only the area of the box."""
        found: list[str | None] = []
        areas: list[float | None] = []
        for mask, packed in zip(masks_of(block), block.column("mask").is_valid(), strict=True):
            if mask is None:
                self._losses.add("left out masks without a place in the picture", packed.as_py())
                found.append(None)
                areas.append(None)
                continue
            width, height = mask.size
            counts = json.dumps(mask.run_lengths())
            found.append(f'{{"size":[{height},{width}],"counts":{counts}}}')
            areas.append(float(np.count_nonzero(mask.pixels)))
        area = pa.array(areas, pa.float64()).fill_null(pc.multiply(box[2], box[3]))
        return {
            "segmentation": pa.array(found, pa.string()),
            "area": texts(area),
        }

    def _keypoints(self, block: Block, numbers: np.ndarray[Any, Any]) -> dict[str, pa.Array]:
        texts_of, counts = [], []
        for number, points in zip(
            numbers.tolist(), block.column("landmarks").to_pylist(), strict=True
        ):
            values = self._flat(number, points)
            texts_of.append(None if values is None else json.dumps(values))
            counts.append(None if values is None else sum(v > 0 for v in values[2::3]))
        return {
            "keypoints": pa.array(texts_of, pa.string()),
            "num_keypoints": pa.array(counts, pa.int64()).cast(pa.string()),
        }

    def _flat(self, number: int, points: list[dict[str, Any]] | None) -> list[float] | None:
        """Return x, y and visibility of each key point, as many as the class has."""
        if points is None:
            return None
        if number not in self.points:
            self.points[number] = _described(points)
        if len(points) != len(self.points[number][0]):
            self._losses.add("left out key points that are not as many as the class has")
            return None
        values: list[float] = []
        for point in points:
            place = point["landmark"] or []
            there = len(place) >= 2 and all(np.isfinite(place[:2]))
            values += [*place[:2], 2] if there else [0.0, 0.0, 0]
            self._losses.add(
                "coco cannot hold scores of key points", point["score"] is not None, "point"
            )
        return values

    def categories(self) -> list[dict[str, Any]]:
        """Return the classes so far."""
        found = []
        for index, name in self.classes.names.items():
            number = index + _FIRST
            category: dict[str, Any] = {"id": number, "name": name, "supercategory": ""}
            category["model_category_id"] = index
            if number in self.points:
                category["keypoints"], category["skeleton"] = self.points[number]
            found.append(category)
        return found


def _described(points: list[dict[str, Any]]) -> tuple[list[str], list[list[int]]]:
    """Return names and connections (counted from 1) of a class's key points."""
    names = [point["label"] or str(index) for index, point in enumerate(points)]
    pairs = {
        tuple(sorted((index + 1, other + 1)))
        for index, point in enumerate(points)
        for other in point["connect"] or ()
        if 0 <= other < len(points) and other != index
    }
    return names, [list(pair) for pair in sorted(pairs)]


class CocoInstances(ExportFormat):
    """A data set in COCO's instances format: images, annotations, categories.

    An image's id is the number of its frame, a category's one more than the model's. Scores and
    track ids are in each annotation, where COCO's readers keep them.
    """

    name = "coco"
    title = "COCO instances: boxes, masks (RLE), key points"
    suffixes = (".json",)
    names_classes = True
    holds = _HOLDS | {"track_id", "empty frames"}

    def write(self, exported: Exported, path: Path) -> None:
        annotations = _Annotations(exported)
        with path.open("wb") as file, tempfile.TemporaryFile() as images:
            name = exported.metadata.get("name") or session_name(exported.session)
            info = {"description": utf8(name), "contributor": "dgrec"}
            file.write(f'{{"info":{json.dumps(info)},"licenses":[],\n"annotations":['.encode())
            _write_listed(file, self._annotations(exported, annotations, images))
            file.write(b'\n],\n"images":[')
            images.seek(0)
            shutil.copyfileobj(images, file)
            categories = ",\n".join(map(json.dumps, annotations.categories()))
            file.write(f'\n],\n"categories":[\n{categories}\n]}}\n'.encode())

    def _annotations(
        self, exported: Exported, annotations: _Annotations, images: BinaryIO
    ) -> Iterator[pa.Array]:
        """Yield the annotations of a block at a time, and write its images."""
        count = 0
        for block in exported.blocks():
            columns = annotations.columns(block)
            first = count + 1
            count += len(block.row_of)
            box = [block.column(name) for name in ("x_min", "y_min", "x_max", "y_max")]
            area = pc.multiply(pc.subtract(box[2], box[0]), pc.subtract(box[3], box[1]))
            ids = pa.array(np.arange(first, count + 1))
            track = texts(block.column("track_id"))
            columns = {"id": texts(ids), "area": texts(area), **columns}
            masks = columns.get("segmentation", pa.nulls(len(ids), pa.string()))
            columns["segmentation"] = masks.fill_null("[]")
            columns["iscrowd"] = pa.array(["0"] * len(ids), pa.string())
            columns["track_id"] = track
            _write_listed(images, [_images(block)], has_before=block.first_index > 0)
            yield objects(columns)


def _images(block: Block) -> pa.Array:
    rows = block.rows
    stem = [f"frame-{number:06}.jpg" for number in rows.column("frame").to_pylist()]
    names = [picture or name for picture, name in zip(block.pictures, stem, strict=True)]
    return objects(
        {
            "id": texts(rows.column("frame")),
            "frame": texts(rows.column("source_frame")),
            "width": texts(rows.column("width")),
            "height": texts(rows.column("height")),
            "file_name": texts(pa.array(names, pa.string())),
            "date_captured": texts(rows.column("captured_at")),
            "time_s": texts(pa.array(block.times_us / 1e6)),
        }
    )


def _write_listed(
    file: BinaryIO, columns: Iterator[pa.Array] | list[pa.Array], *, has_before: bool = False
) -> None:
    """Write the objects of columns, with commas between them, each on a line."""
    for column in columns:
        if not len(column):
            continue
        file.write(b",\n" if has_before else b"\n")
        has_before = True
        write_joined(file, pc.binary_join_element_wise(column.slice(0, len(column) - 1), ",\n", ""))
        write_joined(file, column.slice(len(column) - 1))


class CocoResults(ExportFormat):
    """COCO's results format: the detections on the images of a data set.

    Images and categories have the ids that `CocoInstances` gives them.
    """

    name = "coco-results"
    title = "COCO results: scored boxes, masks, key points"
    member_suffix = ".results.json"
    names_classes = True
    holds = _HOLDS

    def write(self, exported: Exported, path: Path) -> None:
        annotations = _Annotations(exported)
        rows = exported.columns(["frame", "source_frame"])
        if any(has_other_numbers(each, each.column("frame").to_numpy()) for each in rows):
            exported.notes.append(
                "the ids of images are numbers of frames in the session, not in the source: the "
                "instances of the same session (--format coco) say which these are"
            )
        with path.open("wb") as file:
            file.write(b"[")
            found = (objects(annotations.columns(block)) for block in exported.blocks())
            _write_listed(file, found)
            file.write(b"\n]\n")
        names = annotations.classes.names
        if _differs(names, exported):
            listed = and_more([f"{number + _FIRST} is {name}" for number, name in names.items()])
            exported.notes.append(f"some classes are not the model's: {listed}")


def _differs(names: dict[int, str], exported: Exported) -> bool:
    return names != Classes(exported.metadata, contiguous=False).names
