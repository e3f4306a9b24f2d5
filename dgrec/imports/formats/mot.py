"""MOTChallenge: a line for each box, with frame and track."""

from __future__ import annotations

import configparser
import csv
import re
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dgrec.files import read_small_text
from dgrec.imports import (
    Facts,
    Frames,
    Gathering,
    Head,
    ImportedFrame,
    ImportFormat,
    Input,
    InvalidError,
    lines_of,
    open_binary,
    values,
)

#: Classes of the benchmark's ground truth (https://motchallenge.net/instructions).
_CLASSES: Final = {
    1: "pedestrian",
    2: "person on vehicle",
    3: "car",
    4: "bicycle",
    5: "motorbike",
    6: "non motorized vehicle",
    7: "static person",
    8: "distractor",
    9: "occluder",
    10: "occluder on the ground",
    11: "occluder full",
    12: "reflection",
    13: "crowd",
}
#: frame, track, left, top, width, height, and a confidence.
_FEWEST: Final = 7
#: File beside a sequence of only some frames: the number of each in the source.
_NUMBERS: Final = "source_frames.txt"
_MOST: Final = 10
#: Ground truth ends with class and visibility; results with a place in the world.
_TRUTH: Final = 9


class Mot(ImportFormat):
    name = "mot"
    title = "MOTChallenge ground truth or results"
    reads_options = frozenset(("labels",))

    def is_it(self, head: Head) -> bool:
        cells = head.first_cells
        is_number = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?").fullmatch
        return _FEWEST <= len(cells) <= _MOST and all(map(is_number, cells))

    def read(self, given: Input, facts: Facts) -> Frames:
        """Yield all frames of the footage: those without a line have no objects."""
        facts.is_sparse = False
        last = 0
        _read_sequence(given.path, facts)
        source = _read_numbers(given.path)
        # Classes count from 1, as the categories of COCO do.
        named = {number: each.name for number, each in given.options.categories.items()}
        beside = _read_labels(given.path, facts)
        labels = named or dict(given.options.labels) or beside
        with Gathering() as gathering:
            rows = csv.reader(lines_of(given.file))
            try:
                for row in rows:
                    if row:
                        where = f"line {rows.line_num:,}"
                        frame, detection = _detection(row, where, labels, facts)
                        if named:
                            _check_class(detection.get("category_id"), where, labels, beside)
                        last = max(last, frame)
                        gathering.add(detection, frame=frame)
            except csv.Error as error:
                raise InvalidError(f"line {rows.line_num:,}", str(error)) from None
            if source is not None:
                yield from _numbered(gathering, source, facts)
                return
            facts.frames = max(facts.frames or 0, last + 1 if gathering.detections else 0)
            for number, _, found in gathering.frames():
                yield ImportedFrame(number, [item for _, item in found])


def _numbered(gathering: Gathering, source: Sequence[int], facts: Facts) -> Frames:
    """Yield all frames of a sequence of only some of the footage, with their numbers in it."""
    facts.frames = None
    index = 0
    for number, _, found in gathering.frames():
        if number >= len(source):
            raise InvalidError(
                f"frame {number + 1:,}", f"is not one of the {len(source):,} of {_NUMBERS}"
            )
        yield from (ImportedFrame(each, []) for each in source[index:number])
        yield ImportedFrame(source[number], [item for _, item in found])
        index = number + 1
    yield from (ImportedFrame(each, []) for each in source[index:])


def _detection(
    row: Sequence[str], where: str, labels: dict[int, str], facts: Facts
) -> tuple[int, dict[str, Any]]:
    if len(row) < _FEWEST:
        raise InvalidError(where, f"has {len(row)} values; at least {_FEWEST} are expected")
    try:
        frame, *numbers = (float(values.exact(cell)) for cell in (row[0], *row[2:]))
        track = values.exact(row[1].strip())
    except ValueError:
        raise InvalidError(where, "has a value that is not a number") from None
    number = values.count(frame, "frame", where)
    if number == 0:
        raise InvalidError(where, "frames count from 1")
    track_id = values.whole(track, "track", where, 64)
    box = values.box_of_size(numbers[:4], "box", where)
    confidence = values.number(numbers[4], "confidence", where)
    more: dict[str, Any] = {}
    score: float | None = confidence
    category = None
    if len(row) == _TRUTH:
        category = values.count(numbers[5], "class", where, values.INT32_MAX)
        score = None
        more["visibility"] = values.number(numbers[6], "visibility", where)
        if not confidence:  # such a box is not to be evaluated
            more["considered"] = 0
    elif len(row) > _FEWEST and numbers[5] > 0:
        category = values.count(numbers[5], "class", where, values.INT32_MAX)
    known = labels or (_CLASSES if len(row) == _TRUTH else {})
    if category is None and len(labels) == 1:
        category = next(iter(labels))
    label = None if category is None else known.get(category)
    if category is not None and label is not None:
        facts.labels[category] = label
    return number - 1, values.detection(
        box,
        more,
        category_id=category,
        label=label,
        score=score,
        track_id=track_id if track_id >= 0 else None,
    )


def _check_class(
    number: int | None, where: str, labels: Mapping[int, str], beside: Mapping[int, str]
) -> None:
    """Refuse categories that are not meant for the file: each export may number its own.

    Args:
        beside: The names in labels.txt.
    """
    if number is not None and number in beside and labels.get(number) != beside[number]:
        name = labels.get(number, "none")
        raise InvalidError(
            where,
            f"class {number} is {beside[number]} in labels.txt and {name} in --labels; import it "
            "without --labels, or without labels.txt beside it",
        )


def _read_labels(path: Path, facts: Facts) -> dict[int, str]:
    """Return the names of classes in a labels.txt beside the file, which CVAT and others write."""
    try:
        names = read_small_text(path.absolute().parent / "labels.txt").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        facts.notes["labels.txt cannot be read, and is left out"] += 1
        return {}
    return {number: name for number, name in enumerate(names, 1) if name}


def _read_numbers(path: Path) -> array[int] | None:
    """Return the source numbers of a sequence's frames, if dgrec wrote them beside it."""
    beside = path.absolute().parent.parent / _NUMBERS
    if not beside.is_file():
        return None
    found = array("q")
    with open_binary(beside) as file:
        for index, line in enumerate(lines_of(file), 1):
            where = f"{_NUMBERS}: line {index:,}"
            if not line.strip().isascii() or not line.strip().isdecimal() or len(line) > 17:
                raise InvalidError(where, "is not the number of a frame")
            found.append(values.count(int(line), "frame", where))
            if index > 1 and found[-1] <= found[-2]:
                raise InvalidError(where, "the numbers of frames do not rise")
    return found


def _read_sequence(path: Path, facts: Facts) -> None:
    """Take rate, size and length from the benchmark's seqinfo.ini, if it is there."""
    for folder in (path.absolute().parent, path.absolute().parent.parent):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(read_small_text(folder / "seqinfo.ini"))
            about = parser["Sequence"]
            facts.fps = about.getfloat("frameRate")
            width, height = about.getint("imWidth"), about.getint("imHeight")
            facts.frames = about.getint("seqLength")
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, configparser.Error):
            facts.notes["seqinfo.ini cannot be read, and is left out"] += 1
            return
        if width and height and min(width, height) > 0:
            facts.size = width, height
        return
