"""Label Studio: tracks as predictions on a video."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from dgrec.errors import ConfigError
from dgrec.replay.exports import Exported, ExportFormat, Place, Track, Tracks, utf8
from dgrec.replay.exports.formats.xml_text import quoted


class LabelStudio(ExportFormat):
    """A folder with ``tasks.json`` (a video and its predicted tracks) and ``label_config.xml``.

    Places are percentages of the picture; frames count from 1.
    """

    name = "label-studio"
    title = "Label Studio: tracks of a video, as predictions"
    is_folder = True
    replaced = ("tasks.json", "label_config.xml")
    names_classes = True
    holds = frozenset({"label", "score", "track_id", "angle", "empty frames", "float64"})
    pictures = ("none",)

    def write(self, exported: Exported, path: Path) -> None:
        rate = exported.video_rate
        with Tracks(exported) as tracks, (path / "tasks.json").open("w", encoding="utf-8") as file:
            head: dict[str, Any] = {"data": {"video": _video_name(exported)}}
            file.write(f"[{json.dumps(head)[:-1]}, ")
            model = utf8(exported.metadata.get("model", {}).get("name") or "dgrec")
            file.write(f'"predictions": [{{"model_version": {json.dumps(model)}, "result": [')
            for number, track in enumerate(tracks):
                file.write(",\n" if number else "\n")
                file.write(json.dumps(_region(number, track, tracks, rate, exported)))
            file.write("\n]}]}]\n")
            labels = list(tracks.labels)
        (path / "label_config.xml").write_text(_config(labels, rate), "utf-8")


def _video_name(exported: Exported) -> str:
    path = exported.footage.path
    return "video.mp4" if path is None else utf8(path.name)


def _region(
    number: int, track: Track, tracks: Tracks, rate: float, exported: Exported
) -> dict[str, Any]:
    sequence: list[dict[str, Any]] = []
    scores = []
    before = -2
    for place in track.places:
        if sequence and place.at > before + 1:
            sequence[-1]["enabled"] = False  # not shown until the next one
        sequence.append(_keyframe(place, rate, exported))
        scores += [place.score] if place.score is not None else []
        before = place.at
    if sequence and before + 1 < tracks.frames:
        sequence[-1]["enabled"] = False
    return {
        "id": f"track-{number}" if track.track_id is None else f"track-{number}-{track.track_id}",
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "score": sum(scores) / len(scores) if scores else None,
        "value": {
            "framesCount": tracks.frames,
            "duration": tracks.frames / rate,
            "sequence": sequence,
            "labels": [track.label],
        },
    }


def _keyframe(place: Place, rate: float, exported: Exported) -> dict[str, Any]:
    width, height = place.size
    if 0 in place.size:
        raise ConfigError(
            f"{exported.session.path}: frame {place.at} of the video has no recorded size, of "
            "which Label Studio's numbers are percentages"
        )
    box = place.box
    if not place.angle:
        x_min, x_max = (min(max(x, 0.0), width) for x in (box[0], box[2]))
        y_min, y_max = (min(max(y, 0.0), height) for y in (box[1], box[3]))
        exported.losses.add(
            "cut boxes at the edge of the picture", (x_min, y_min, x_max, y_max) != box
        )
        place = replace(place, box=(x_min, y_min, x_max, y_max))
    x_min, y_min, x_max, y_max = place.box
    left, top = place.corners()[0]  # Label Studio turns boxes about this corner
    return {
        "frame": place.at + 1,
        "time": place.at / rate,
        "enabled": True,
        "rotation": math.degrees(place.angle),
        "x": left / width * 100,
        "y": top / height * 100,
        "width": (x_max - x_min) / width * 100,
        "height": (y_max - y_min) / height * 100,
        "score": place.score,
    }


def _config(labels: list[str], rate: float) -> str:
    values = "".join(f"    <Label value={quoted(label)}/>\n" for label in labels)
    return (
        '<View>\n  <Labels name="labels" toName="video">\n'
        f"{values}  </Labels>\n"
        f'  <Video name="video" value="$video" frameRate="{rate!r}"/>\n'
        '  <VideoRectangle name="box" toName="video"/>\n</View>\n'
    )
