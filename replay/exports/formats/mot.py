"""MOTChallenge: a sequence (with ground truth), and a tracker's results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from configparser import ConfigParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.replay.exports import Block, Exported, ExportFormat, has_other_numbers, session_name
from dgrec.replay.exports.formats.json_text import write_joined

_HOLDS = frozenset({"score", "track_id", "float64"})


#: The ends of lines: no place in the world; fully visible.
_RESULT, _TRUTH = ",-1,-1,-1\n", ",1\n"


def _lines(
    block: Block, numbers: pa.Array, track: pa.Array, last: Iterable[pa.Array], end: str
) -> pa.Array:
    """Return lines ``frame,track,left,top,width,height,...`` of a block's detections.

    Args:
        numbers: Of the block's frames, from 1.
    """
    columns = [numbers.take(pa.array(block.row_of)), track, *block.places(), *last]
    found = [column.cast(pa.string()) for column in columns]
    return pc.binary_join_element_wise(pc.binary_join_element_wise(*found, ","), end, "")


def _score(exported: Exported, block: Block) -> pa.Array:
    """Return scores; 1 where there is none, which is counted."""
    score = block.column("score")
    exported.losses.add("wrote 1 for a score that is not there", score.null_count)
    return pc.fill_null(score, 1.0)


def _count_negative(exported: Exported, track: pa.Array) -> None:
    """Count the track ids that readers take for no track."""
    count = pc.sum(pc.less(track, 0)).as_py() or 0
    exported.losses.add("wrote negative track ids, which mean no track there", count)


class MotResults(ExportFormat):
    """A tracker's results: ``frame,id,left,top,width,height,score,-1,-1,-1``, frames from 1.

    Frames have their numbers in the source, where these are known: the file has no place to say
    that it counts others.
    """

    name = "mot-results"
    title = "MOTChallenge results of a tracker"
    suffixes = (".txt",)
    holds = _HOLDS
    needs_track = True

    def write(self, exported: Exported, path: Path) -> None:
        with path.open("wb") as file:
            for block in exported.blocks():
                numbers = block.rows.column("source_frame")
                if not exported.has_source_numbers:
                    counted = np.arange(block.rows.num_rows) + block.first_index
                    exported.note_numbers(block, counted)
                    numbers = pa.array(counted)
                track = block.column("track_id")
                _count_negative(exported, track)
                score = _score(exported, block)
                lines = _lines(block, pc.add(numbers, 1), track, [score], _RESULT)
                write_joined(file, lines)


class MotSequence(ExportFormat):
    """A sequence: ``gt/gt.txt`` has the tracks, ``det/det.txt`` all detections; frames from 1.

    Classes count from 1, in ``gt/labels.txt``. Where frames have other numbers than in the source,
    ``source_frames.txt`` has the source's, a line for each.
    """

    name = "mot"
    title = "MOTChallenge sequence: tracks as ground truth"
    is_folder = True
    replaced = ("seqinfo.ini", "gt", "det", "img1", "source_frames.txt")
    names_classes = True
    holds = _HOLDS | {"label", "empty frames"}

    def picture_name(self, number: int, index: int, split: str, suffix: str) -> str:
        return f"img1/{index + 1:06}{suffix}"

    def write(self, exported: Exported, path: Path) -> None:
        classes = exported.classes(contiguous=True)
        (path / "gt").mkdir()
        (path / "det").mkdir()
        frames, sizes = 0, Counter[tuple[int, int]]()
        is_other = False
        source = path / "source_frames.txt"
        with (
            (path / "gt" / "gt.txt").open("wb") as truth,
            (path / "det" / "det.txt").open("wb") as found,
            source.open("wb") as numbered,
        ):
            for block in exported.blocks():
                frames = block.first_index + block.rows.num_rows
                counted = np.arange(block.first_index, frames)
                is_other |= has_other_numbers(block.rows, counted)
                if exported.has_source_numbers:
                    lines = block.rows.column("source_frame").cast(pa.string())
                    write_joined(numbered, pc.binary_join_element_wise(lines, "\n", ""))
                else:
                    exported.note_numbers(block, counted)
                sizes.update(map(tuple, block.sizes().tolist()))
                count = len(block.row_of)
                none = pa.array(np.full(count, -1))
                numbers = pa.array(counted + 1)
                score = _score(exported, block)
                write_joined(found, _lines(block, numbers, none, [score], _RESULT))
                kinds = map(
                    classes.number, *(block.values(name) for name in ("label", "category_id"))
                )
                last = [pa.array(np.ones(count, np.int64)), pa.array([k + 1 for k in kinds])]
                track = block.column("track_id")
                _count_negative(exported, track)
                # A line without a track is null.
                write_joined(truth, _lines(block, numbers, track, last, _TRUTH).drop_null())
                exported.losses.add("gt.txt cannot hold what has no track", track.null_count)
        if not is_other or not exported.has_source_numbers:
            source.unlink()
        names = "".join(f"{_line(name)}\n" for name in classes.names.values())
        changed = sum(_line(name) != name for name in classes.names.values())
        exported.losses.add("labels.txt has other white space than labels", changed, "label")
        (path / "gt" / "labels.txt").write_text(names, "utf-8")
        _write_info(exported, path, frames, exported.one_size(sizes))


def _line(name: str) -> str:
    """Return a label on one line."""
    return " ".join(name.split()) or "object"


def _write_info(exported: Exported, path: Path, frames: int, size: tuple[int, int]) -> None:
    suffix = exported.pictures.suffix if exported.pictures is not None else ".jpg"
    rate = max(1, round(exported.rate))
    if rate != exported.rate:
        exported.notes.append(f"seqinfo.ini says {rate} frames a second instead of {exported.rate}")
    info = ConfigParser(interpolation=None)
    info.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their capitals
    info["Sequence"] = {
        "name": _line(session_name(exported.session)),
        "imDir": "img1",
        "frameRate": str(rate),
        "seqLength": str(frames),
        "imWidth": str(size[0]),
        "imHeight": str(size[1]),
        "imExt": suffix,
    }
    with (path / "seqinfo.ini").open("w", encoding="utf-8") as file:
        info.write(file, space_around_delimiters=False)
