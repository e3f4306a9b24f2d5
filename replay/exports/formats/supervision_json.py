"""JSON as supervision's ``JSONSink`` writes it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dgrec.replay.exports import Block, Exported, ExportFormat
from dgrec.replay.exports.formats.json_text import objects, texts, write_joined


class SupervisionJson(ExportFormat):
    """A list of objects, one for each detection, with supervision's names.

    Values that a detection lacks are empty texts, as there. ``class_name`` is where supervision
    keeps names; ``frame_index``, ``frame``, ``source_frame`` and ``time_s`` are custom data.
    """

    name = "supervision-json"
    title = "what supervision's JSONSink writes"
    member_suffix = ".supervision.json"
    holds = frozenset({"label", "score", "track_id", "float64"})
    has_splits = True

    def write(self, exported: Exported, path: Path) -> None:
        with path.open("wb") as file:
            file.write(b"[\n")
            before = ""
            for block in exported.blocks():
                if len(block.row_of):
                    file.write(before.encode())
                    lines = objects(_columns(exported, block), ",\n")
                    write_joined(file, lines.slice(0, len(lines) - 1))
                    file.write(lines[-1].as_py()[:-2].encode())
                    before = ",\n"
            file.write(b"\n]\n")


def _columns(exported: Exported, block: Block) -> dict[str, pa.Array]:
    row_of = pa.array(block.row_of)
    columns = {name: texts(block.column(name)) for name in ("x_min", "y_min", "x_max", "y_max")}
    for name, field in (
        ("class_id", "category_id"),
        ("confidence", "score"),
        ("tracker_id", "track_id"),
    ):
        column = block.column(field)
        there = column.is_valid()
        columns[name] = pc.if_else(there, texts(column), '""')
    columns["class_name"] = texts(block.column("label"))
    columns["frame_index"] = texts(pa.array(block.row_of + block.first_index))
    for name in ("frame", "source_frame"):
        column = block.rows.column(name).take(row_of)
        columns[name] = pc.if_else(column.is_valid(), texts(column), '""')
    columns["time_s"] = texts(pa.array(block.times_us / 1e6).take(row_of))
    if exported.pictures is not None:
        columns["picture"] = texts(pa.array(block.pictures, pa.string()).take(row_of))
    if any(exported.splits):
        columns["split"] = texts(pa.array([block.split] * len(row_of), pa.string()))
    return columns
