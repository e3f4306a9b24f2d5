"""The formats that can be imported, by name, and how a file's is recognized."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final

from dgrec.errors import ConfigError
from dgrec.imports.cvat import ARCHIVE
from dgrec.imports.foxglove import MAGIC
from dgrec.imports.frames import Read
from dgrec.imports.tables import BOX
from dgrec.imports.text import InvalidError, head_of

__all__ = ["FORMATS", "Format", "find_format", "format_of"]


@dataclass(frozen=True)
class Head:
    """The beginning of a file."""

    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode("utf-8-sig", "replace").lstrip()

    @property
    def keys(self) -> frozenset[str]:
        """Keys of JSON in it, at any depth."""
        return frozenset(re.findall(r'"([^"\\]{1,40})"\s*:', self.text))

    @property
    def first_cells(self) -> list[str]:
        lines = self.text.splitlines()
        return [cell.strip().strip('"') for cell in lines[0].split(",")] if lines else []

    def has_keys(self, start: str, *keys: str) -> bool:
        """Return whether it is JSON that begins so, and has all of these keys."""
        packed = re.sub(r"\s+", "", self.text[:200])
        return packed.startswith(start) and self.keys.issuperset(keys)


@dataclass(frozen=True)
class Format:
    """A format that can be imported: a module of this folder, and its function."""

    name: str
    holds: str
    module: str
    is_it: Callable[[Head], bool]
    function: str = "read"

    def reader(self) -> Read:
        found: Read = getattr(
            importlib.import_module(f"dgrec.imports.{self.module}"), self.function
        )
        return found


def _is_mot(head: Head) -> bool:
    cells = head.first_cells
    return 7 <= len(cells) <= 10 and all(
        re.fullmatch(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", cell) is not None for cell in cells
    )


def _is_coco(head: Head) -> bool:
    if head.has_keys("[{", "image_id", "category_id"):
        return True
    keys = {"images", "annotations", "categories"}
    return head.has_keys("{") and len(keys & head.keys) >= 1 and "results" not in head.keys


#: In the order in which they are tried.
FORMATS: Final = (
    Format("mcap", "ImageAnnotations of Foxglove", "foxglove", lambda h: h.data.startswith(MAGIC)),
    Format(
        "cvat",
        "CVAT for video 1.1 and for images 1.1, XML or ZIP",
        "cvat",
        lambda h: h.data.startswith(ARCHIVE) or "<annotations" in h.text[:1000],
    ),
    Format(
        "payload",
        "JSON lines of DeGirum's payload, guide or full",
        "payload",
        lambda h: h.has_keys("{", "detections") and not {"samples", "frames"} & h.keys,
    ),
    Format(
        "fiftyone",
        "samples.json, frames.json or labels.json of FiftyOne",
        "fiftyone",
        lambda h: (
            (h.has_keys("{") and bool({"samples", "bounding_box", "_sample_id"} & h.keys))
            or h.has_keys("{", "classes", "labels")
        ),
    ),
    Format("coco", "COCO annotations or results", "coco", _is_coco),
    Format(
        "ultralytics",
        "Results.to_json() of Ultralytics, one picture after the other, or of its web API",
        "ultralytics",
        lambda h: h.has_keys("[", "class", "confidence") or h.has_keys("{", "images", "results"),
    ),
    Format(
        "supervision-json",
        "JSONSink of supervision",
        "tables",
        lambda h: h.has_keys("[{", *BOX) or h.has_keys("{", *BOX),
        "read_json",
    ),
    Format(
        "supervision-csv",
        "CSVSink of supervision, or CSV with x_min, y_min, x_max, y_max and a frame's number",
        "tables",
        lambda h: {*BOX} <= {*h.first_cells},
        "read_csv",
    ),
    Format("mot", "MOTChallenge ground truth or results", "mot", _is_mot),
)


def find_format(name: str) -> Format:
    """Return the format of a name.

    Raises:
        ConfigError: There is none.
    """
    for format_ in FORMATS:
        if format_.name == name:
            return format_
    known = ", ".join(sorted(format_.name for format_ in FORMATS))
    raise ConfigError(f"{name!r} is not a format that can be imported; there are {known}")


def format_of(file: IO[bytes]) -> Format:
    """Return the format that a file looks like.

    Raises:
        InvalidError: It looks like none.
    """
    head = Head(head_of(file))
    for format_ in FORMATS:
        if format_.is_it(head):
            return format_
    what = (
        "is empty"
        if not head.data.strip()
        else "is of no format that dgrec imports (docs/imports.md)"
    )
    raise InvalidError("its beginning", what)
