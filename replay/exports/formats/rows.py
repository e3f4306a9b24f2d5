"""A row for each detection: CSV, JSON lines, Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from dgrec.format import DETECTION, SCHEMA
from dgrec.replay.exports import EVERYTHING, Block, Exported, ExportFormat, masks_of
from dgrec.replay.exports.formats.json_text import objects, texts, write_joined

_FRAME = "frame source_frame media_time_s captured_at latency_ms width height video_frame".split()
_DETECTION = "label category_id score x_min y_min x_max y_max angle track_id".split()
_HOLDS = EVERYTHING - {"empty frames"}


def _schema(exported: Exported, *, nested: bool) -> pa.Schema:
    fields = [SCHEMA.field(name).with_nullable(True) for name in _FRAME]
    fields.insert(3, pa.field("time_s", pa.float64()))
    fields.append(pa.field("detection", pa.int32()))
    fields += [DETECTION.field(name) for name in _DETECTION]
    points = DETECTION.field("landmarks")
    fields.append(points if nested else pa.field("landmarks", pa.string()))
    fields += [pa.field("mask_rle", pa.string()), pa.field("extra", pa.string())]
    if exported.pictures is not None:
        fields.append(pa.field("picture", pa.string()))
    if any(exported.splits):
        fields.append(pa.field("split", pa.string()))
    return pa.schema(fields)


def tables(exported: Exported, *, nested: bool) -> Iterator[pa.Table]:
    """Yield tables with a row for each detection.

    Args:
        nested: Whether key points are a nested column; else they are JSON.
    """
    schema = _schema(exported, nested=nested)
    for block in exported.blocks():
        columns = _columns(exported, block, nested=nested)
        if exported.pictures is not None:
            names = pa.array(block.pictures, pa.string())
            columns["picture"] = names.take(pa.array(block.row_of))
        if any(exported.splits):
            columns["split"] = pa.array([block.split] * len(block.row_of), pa.string())
        yield pa.table(
            [columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema
        )


def _columns(exported: Exported, block: Block, *, nested: bool) -> dict[str, Any]:
    row_of = pa.array(block.row_of)
    columns = {name: block.rows.column(name).take(row_of) for name in _FRAME}
    columns["time_s"] = pc.divide(pa.array(block.times_us).take(row_of).cast(pa.float64()), 1e6)
    columns["detection"] = pa.array(block.index_of)
    for name in (*_DETECTION, "landmarks", "extra"):
        columns[name] = block.column(name)
    if not nested:
        columns["landmarks"] = _points_json(columns["landmarks"])
    lengths = [None if mask is None else mask.run_lengths() for mask in masks_of(block)]
    columns["mask_rle"] = pa.array(lengths, pa.string())
    packed = block.column("mask")
    left_out = columns["mask_rle"].null_count - packed.null_count
    exported.losses.add("left out masks without a place in the picture", left_out)
    return columns


def _points_json(landmarks: pa.Array) -> pa.Array:
    import json

    if landmarks.null_count == len(landmarks):
        return pa.nulls(len(landmarks), pa.string())
    return pa.array(
        [None if points is None else json.dumps(points) for points in landmarks.to_pylist()],
        pa.string(),
    )


class Csv(ExportFormat):
    """CSV: key points are JSON, masks COCO's run lengths."""

    name = "csv"
    title = "a row for each detection"
    suffixes = (".csv",)
    holds = _HOLDS
    needs_box = False
    has_splits = True

    def write(self, exported: Exported, path: Path) -> None:
        schema = _schema(exported, nested=False)
        with pa_csv.CSVWriter(str(path), schema) as writer:
            for table in tables(exported, nested=False):
                writer.write_table(table)


class JsonLines(ExportFormat):
    """JSON lines: an object for each detection."""

    name = "jsonl"
    title = "a JSON object on a line for each detection"
    suffixes = (".jsonl", ".ndjson")
    holds = _HOLDS
    needs_box = False
    has_splits = True

    def write(self, exported: Exported, path: Path) -> None:
        with path.open("wb") as file:
            for table in tables(exported, nested=False):
                for batch in table.to_batches():
                    found = {
                        name: batch.column(name)
                        if name == "landmarks"
                        else texts(batch.column(name))
                        for name in batch.schema.names
                    }
                    found["landmarks"] = found["landmarks"].fill_null("null")
                    write_joined(file, objects(found, "\n"))


class FlatParquet(ExportFormat):
    """Parquet without nested detections."""

    name = "parquet-flat"
    title = "Parquet with a row for each detection"
    member_suffix = ".flat.parquet"
    holds = _HOLDS | {"not finite"}
    needs_box = False
    has_splits = True

    def write(self, exported: Exported, path: Path) -> None:
        schema = _schema(exported, nested=True)
        with pq.ParquetWriter(str(path), schema, compression="zstd") as writer:
            for table in tables(exported, nested=True):
                writer.write_table(table)
