"""MOTChallenge: a sequence (with ground truth), and a tracker's results."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

from dgrec.replay.exports import Detection, Exported, Format, Frame, registered, session_name

__all__ = ["MotResults", "MotSequence"]

_HOLDS = frozenset({"score", "track_id", "float64"})


def _box(detection: Detection) -> str:
    x_min, y_min, x_max, y_max = detection.box
    return f"{x_min!r},{y_min!r},{x_max - x_min!r},{y_max - y_min!r}"


def _score(detection: Detection) -> str:
    return repr(1.0 if detection.score is None else detection.score)


@registered
class MotResults(Format):
    """What a tracker found: ``frame,id,left,top,width,height,score,-1,-1,-1``, frames from 1."""

    name = "mot-results"
    title = "MOTChallenge results of a tracker"
    suffixes = (".txt",)
    holds = _HOLDS
    needs_track = True

    def write(self, exported: Exported, path: Path) -> None:
        with path.open("w", encoding="ascii") as file:
            for frame in exported.frames():
                for each in frame.detections:
                    place = f"{frame.index + 1},{each.track_id},{_box(each)}"
                    file.write(f"{place},{_score(each)},-1,-1,-1\n")


@registered
class MotSequence(Format):
    """A sequence: ``gt/gt.txt`` has the tracks, ``det/det.txt`` all detections; frames from 1.

    Classes count from 1, in ``gt/labels.txt``.
    """

    name = "mot"
    title = "MOTChallenge sequence: tracks as ground truth"
    is_folder = True
    replaced = ("seqinfo.ini", "gt", "det", "img1")
    holds = _HOLDS | {"label", "empty frames"}

    def picture_name(self, number: int, index: int, split: str, suffix: str) -> str:
        return f"img1/{index + 1:06}{suffix}"

    def write(self, exported: Exported, path: Path) -> None:
        classes = exported.classes(contiguous=True)
        (path / "gt").mkdir()
        (path / "det").mkdir()
        last: Frame | None = None
        with (
            (path / "gt" / "gt.txt").open("w", encoding="ascii") as truth,
            (path / "det" / "det.txt").open("w", encoding="ascii") as found,
        ):
            for frame in exported.frames():
                last = frame
                number = frame.index + 1
                for each in frame.detections:
                    found.write(f"{number},-1,{_box(each)},{_score(each)},-1,-1,-1\n")
                    kind = classes.number(each.label, each.category_id) + 1
                    if each.track_id is None:
                        exported.losses.add("gt.txt cannot hold what has no track")
                    else:
                        truth.write(f"{number},{each.track_id},{_box(each)},1,{kind},1\n")
        names = "".join(f"{_line(name)}\n" for name in classes.names.values())
        (path / "gt" / "labels.txt").write_text(names, "utf-8")
        _write_info(exported, path, last)


def _line(name: str) -> str:
    """Return a label on one line."""
    return " ".join(name.split()) or "object"


def _write_info(exported: Exported, path: Path, last: Frame | None) -> None:
    width, height = last.size if last is not None else (0, 0)
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
        "seqLength": str(0 if last is None else last.index + 1),
        "imWidth": str(width),
        "imHeight": str(height),
        "imExt": suffix,
    }
    with (path / "seqinfo.ini").open("w", encoding="utf-8") as file:
        info.write(file, space_around_delimiters=False)
