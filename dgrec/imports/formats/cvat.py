"""CVAT's exports: "CVAT for video 1.1" and "CVAT for images 1.1", as XML or in their archive."""

from __future__ import annotations

import contextlib
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, Final
from xml.parsers import expat

from dgrec.errors import first_line
from dgrec.imports import (
    Facts,
    Frames,
    Gathering,
    Head,
    ImportedFrame,
    ImportFormat,
    Input,
    InvalidError,
    head_of,
    values,
)

_ARCHIVE: Final = b"PK\x03\x04"
_MEMBER: Final = "annotations.xml"
_CHUNK: Final = 1 << 18
_LARGEST_XML: Final = 4 << 30
_DEEPEST: Final = 64
#: Tags and texts are in memory until they end.
_LONGEST_TOKEN: Final = 16 << 20
_LONGEST_TEXT: Final = 1 << 16
_SHAPES: Final = frozenset("box polygon polyline points mask ellipse cuboid skeleton".split())
#: Errors that `zipfile` raises.
_DAMAGED: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
)
_NUMBERS: Final = frozenset(("score", "confidence"))


class Cvat(ImportFormat):
    name = "cvat"
    title = "CVAT for video 1.1 or for images 1.1, XML or its archive"

    def is_it(self, head: Head) -> bool:
        return head.data.startswith(_ARCHIVE) or "<annotations" in head.text[:1000]

    def read(self, given: Input, facts: Facts) -> Frames:
        """Yield the frames of a task: all frames of a video, or the pictures."""
        with Gathering() as gathering, _xml(given) as file:
            parser = _Parser(gathering, facts)
            parser.read(file)
            if parser.video and parser.is_whole and parser.frames:
                facts.frames = max(parser.frames, parser.last + 1)
            else:
                facts.is_sparse = parser.video
            if (repeated := gathering.repeated("frame")) is not None:
                index, frame = repeated
                raise InvalidError(f"image {index}", f"is frame {frame}, as one before it")
            for number, picture, found in gathering.frames():
                size = picture.get("size")
                yield ImportedFrame(
                    number,
                    [_with_mask(item, number) for _, item in found],
                    size=None if size is None else tuple(size),
                )


@contextlib.contextmanager
def _xml(given: Input) -> Iterator[IO[bytes]]:
    if not head_of(given.file).startswith(_ARCHIVE):
        yield given.file
        return
    try:
        with zipfile.ZipFile(given.file) as archive, archive.open(_MEMBER) as member:
            yield member
    except InvalidError:
        raise
    except KeyError:
        raise InvalidError("the archive", f"has no {_MEMBER}") from None
    except (*_DAMAGED, OSError, ValueError) as error:
        raise InvalidError(
            "the archive", f"is damaged, or encrypted: {first_line(error)}"
        ) from None


def _with_mask(item: dict[str, Any], frame: int) -> dict[str, Any]:
    """Return a detection with its mask, which was kept as runs along the rows until now."""
    mask = item.get("mask")
    if mask is None:
        return item
    place, size = (mask["x"], mask["y"]), (mask["width"], mask["height"])
    where = f"frame {frame:,}"
    return {
        **item,
        "mask": values.packed_mask(place, size, mask["runs"], where, by_columns=False),
    }


class _Parser:
    """Follows the elements of the file; only the current shape is in memory."""

    def __init__(self, gathering: Gathering, facts: Facts) -> None:
        self.video = False
        #: Whether the task has all frames of its video.
        self.is_whole = True
        self.frames = 0
        self.last = -1
        self._gathering, self._facts = gathering, facts
        self._path: list[str] = []
        self._text: list[str] = []
        self._track: dict[str, str] = {}
        self._image: dict[str, str] = {}
        self._frame = 0
        self._shape: dict[str, str] | None = None
        self._attributes: dict[str, str] = {}
        self._attribute = ""
        self._size: dict[str, int] = {}
        #: Where the last tag or text began, in bytes.
        self._seen = 0
        self._categories: dict[str, int] = {}
        self._xml = expat.ParserCreate()
        self._xml.buffer_text = True
        self._xml.StartElementHandler = self._start
        self._xml.EndElementHandler = self._end
        self._xml.CharacterDataHandler = self._characters
        # An entity may stand for gigabytes, or for a file of this machine.
        self._xml.StartDoctypeDeclHandler = self._refuse

    @property
    def where(self) -> str:
        return f"line {self._xml.CurrentLineNumber:,}"

    def read(self, file: IO[bytes]) -> None:
        left, fed = _LARGEST_XML, 0
        is_over = False
        while not is_over:
            try:
                data = file.read(_CHUNK)
                left -= len(data)
                fed += len(data)
                if fed - self._seen > _LONGEST_TOKEN:
                    raise InvalidError(self.where, f"a tag of more than {_LONGEST_TOKEN >> 20} MB")
                if left < 0:
                    raise InvalidError(self.where, f"more than {_LARGEST_XML >> 30} GB of XML")
                is_over = not data
                self._xml.Parse(data, is_over)
            except expat.ExpatError as error:
                problem = expat.ErrorString(error.code)
                raise InvalidError(f"line {error.lineno:,}", f"is not XML: {problem}") from None
            except LookupError as error:
                raise InvalidError(self.where, f"cannot be read: {first_line(error)}") from None
        if len(self._size) == 2 and min(self._size.values()) > 0:
            self._facts.size = self._size["width"], self._size["height"]

    def _refuse(self, *_: object) -> None:
        raise InvalidError(self.where, "has a document type, which CVAT does not write")

    def _characters(self, text: str) -> None:
        self._seen = self._xml.CurrentByteIndex
        self._text.append(text)
        if sum(map(len, self._text)) > _LONGEST_TEXT:
            raise InvalidError(self.where, f"a text of more than {_LONGEST_TEXT:,} characters")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._seen = self._xml.CurrentByteIndex
        if not self._path and name != "annotations":
            raise InvalidError(self.where, f"is <{name[:40]}>; CVAT writes <annotations>")
        self._path.append(name)
        self._text.clear()
        if len(self._path) > _DEEPEST:
            raise InvalidError(self.where, "is nested too deeply")
        if self._path[1:2] == ["meta"]:
            return
        if name == "track":
            self.video, self._track = True, attributes
        elif name == "image":
            self._begin_image(attributes)
        elif name in _SHAPES and self._shape is None:
            self._shape, self._attributes = attributes, {}
        elif name == "attribute":
            self._attribute = attributes.get("name", "")

    def _end(self, name: str) -> None:
        text = "".join(self._text).strip()
        self._text.clear()
        inside, self._path = self._path[:-1], self._path[:-1]
        if inside[1:2] == ["meta"]:
            self._describe(name, inside[-1], text)
        elif name == "attribute" and self._shape is not None:
            if len(self._attributes) >= 1000:
                raise InvalidError(self.where, "has more than 1,000 attributes")
            self._attributes[self._attribute] = text
        elif name in _SHAPES and self._shape is not None and inside[-1] not in _SHAPES:
            self._add(name, self._shape)
            self._shape = None
        elif name == "track":
            self._track = {}
        elif name == "image":
            self._image = {}

    def _describe(self, name: str, inside: str, text: str) -> None:
        if name == "mode":
            self.video = self.video or text == "interpolation"
        elif name == "size" and inside in ("task", "job"):
            self.frames = self._count(text, "size")
        elif name in ("width", "height") and inside == "original_size":
            self._size[name] = self._count(text, name)
        elif name == "source" and text:
            self._facts.counts = values.label(text, "source", self.where)
        elif (name == "start_frame" and text not in ("", "0")) or (name == "frame_filter" and text):
            self.is_whole = False
        elif name == "name" and inside == "label":
            label = values.label(text, "label", self.where)
            if label not in self._categories and len(self._categories) < 10_000:
                self._facts.labels[len(self._categories)] = label
                self._categories[label] = len(self._categories)

    def _begin_image(self, attributes: dict[str, str]) -> None:
        self._image = attributes
        name = attributes.get("name", "")
        frame = values.frame_of_name(name)
        self._frame = self._count(attributes.get("id", ""), "id") if frame is None else frame
        size = None
        if "width" in attributes and "height" in attributes:
            size = [self._count(attributes[key], key) for key in ("width", "height")]
        self._gathering.add_image(str(self._frame), self._frame, {"size": size})

    def _count(self, text: str, name: str) -> int:
        if not text.isascii() or not text.isdecimal() or len(text) > 15:
            raise InvalidError(self.where, f"{name!r} is not a whole number")
        return int(text)

    def _number(self, text: str | None, name: str) -> float:
        with contextlib.suppress(ValueError, TypeError):
            return values.number(values.exact(text or "-"), name, self.where)
        raise InvalidError(self.where, f"{name!r} is not a number")

    def _add(self, kind: str, shape: dict[str, str]) -> None:
        """Add a shape to its frame."""
        if shape.get("outside") == "1":
            return
        if kind not in ("box", "polygon", "mask"):
            self._facts.notes[f"shapes of the kind {kind} are left out"] += 1
            return
        where = self.where
        label = shape.get("label", self._track.get("label"))
        more: dict[str, Any] = {}
        if kind == "box":
            names = ("xtl", "ytl", "xbr", "ybr")
            box = values.corners([self._number(shape.get(n), n) for n in names], "box", where)
            if shape.get("rotation") not in (None, "0", "0.0", "0.00"):
                degrees = self._number(shape["rotation"], "rotation")
                more["angle"] = math.radians(degrees % 360)
        elif kind == "polygon":
            box, more["segmentation"] = self._polygon(shape.get("points", ""))
            self._facts.notes["polygons are kept as they are, and not drawn"] += 1
        else:
            box, more["mask"] = self._mask(shape)
        if shape.get("occluded") == "1":
            more["occluded"] = 1
        score = None
        for name in _NUMBERS & self._attributes.keys():
            with contextlib.suppress(ValueError):
                score = values.number(values.exact(self._attributes[name]), name, where)
        if kept := {
            # dgrec's exports have an empty attribute where there is no score.
            k: v
            for k, v in self._attributes.items()
            if k not in _NUMBERS or (score is None and v)
        }:
            more["attributes"] = kept
        track = self._track.get("id") if self.video else None
        found = values.detection(
            box,
            more,
            category_id=None if label is None else self._categories.get(label),
            label=None if label is None else values.label(label, "label", where),
            score=score,
            track_id=None if track is None else self._count(track, "id"),
        )
        if self._image:
            self._gathering.add(found, image=str(self._frame))
        elif self._gathering.images:
            raise InvalidError(where, "has images and tracks, which CVAT does not export together")
        elif self._track:
            frame = self._count(shape.get("frame", ""), "frame")
            self.last = max(self.last, frame)
            self._gathering.add(found, frame=frame)
        else:
            raise InvalidError(where, f"<{kind}> is neither in a track nor in an image")

    def _polygon(self, text: str) -> tuple[list[float], list[list[float]]]:
        points = [
            self._number(part, "points") for pair in text.split(";") for part in pair.split(",")
        ]
        if len(points) < 6 or len(points) % 2:
            raise InvalidError(self.where, "'points' is not x,y;x,y;...")
        x, y = points[::2], points[1::2]
        box = values.corners([min(x), min(y), max(x), max(y)], "points", self.where)
        return box, [points]

    def _mask(self, shape: dict[str, str]) -> tuple[list[float], dict[str, Any]]:
        x, y, width, height = (
            self._count(shape.get(name, ""), name) for name in ("left", "top", "width", "height")
        )
        runs = [self._count(part.strip(), "rle") for part in shape.get("rle", "").split(",")]
        if not 0 < width * height <= 40_000_000 or sum(runs) != width * height:
            raise InvalidError(self.where, f"its mask does not cover {width}x{height} pixels")
        box = values.box_of_size([x, y, width, height], "mask", self.where)
        mask = {"x": x, "y": y, "width": width, "height": height, "runs": runs}
        return box, mask
