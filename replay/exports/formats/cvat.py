"""CVAT for video 1.1: tracks of boxes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TextIO

from dgrec.replay.exports import Exported, ExportFormat, Place, Track, Tracks, session_name, utf8
from dgrec.replay.exports.formats.xml_text import quoted, text


class Cvat(ExportFormat):
    """An XML file with the tracks of a video.

    Frames have the numbers that CVAT gives to frames of the video, or to the exported pictures; the
    task's ``source`` names these. Ids of tracks are the session's, if they can be.
    """

    name = "cvat"
    title = "CVAT for video 1.1: tracks"
    suffixes = (".xml",)
    names_classes = True
    holds = frozenset({"label", "score", "track_id", "angle", "empty frames", "float64"})
    says_video = True

    def write(self, exported: Exported, path: Path) -> None:
        with (
            Tracks(exported) as tracks,
            path.open("w", encoding="utf-8", newline="\n") as file,
        ):
            _write_head(file, exported, tracks)
            highest, alone = tracks.highest_id, 0
            for index, track in enumerate(tracks):
                number = index
                if highest is not None and track.track_id is not None:
                    number = track.track_id
                elif track.track_id is None:
                    alone += 1
                    number = index if highest is None else highest + alone
                _write_track(file, number, track, tracks.frames)
            exported.losses.add("made a track of each detection without one", alone)
            exported.losses.add(
                "cvat shows frames that are not exported as frames without detections",
                tracks.frames - tracks.shown,
                "frame",
            )
            file.write("</annotations>\n")


def _write_head(file: TextIO, exported: Exported, tracks: Tracks) -> None:
    width, height = exported.one_size(tracks.sizes)
    labels = "".join(
        f"<label><name>{text(label)}</name><type>rectangle</type><attributes>"
        "<attribute><name>score</name><mutable>True</mutable><input_type>text</input_type>"
        "<default_value></default_value><values></values></attribute>"
        "</attributes></label>\n"
        for label in tracks.labels
    )
    source = "".join(f"<source>{text(name)}</source>\n" for name in _source(exported))
    file.write(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta>\n<task>\n<name>{text(session_name(exported.session))}</name>\n"
        f"<size>{tracks.frames}</size>\n<mode>interpolation</mode>\n<start_frame>0</start_frame>\n"
        f"<stop_frame>{max(0, tracks.frames - 1)}</stop_frame>\n<labels>\n{labels}</labels>\n"
        f"<original_size><width>{width}</width><height>{height}</height></original_size>\n"
        f"{source}</task>\n</meta>\n"
    )


def _source(exported: Exported) -> list[str]:
    """Return the name of the video or of the folder of pictures whose frames are counted."""
    if exported.pictures is not None:
        return [utf8(exported.pictures.folder_name)]
    return [] if exported.footage.path is None else [utf8(exported.footage.path.name)]


def _write_track(file: TextIO, number: int, track: Track, frames: int) -> None:
    file.write(f'<track id="{number}" label={quoted(track.label)} source="auto">\n')
    last: Place | None = None
    for place in track.places:
        if last is not None and place.at > last.at + 1:
            _write_box(file, last, last.at + 1, is_outside=True)
        _write_box(file, place, place.at)
        last = place
    if last is not None and last.at + 1 < frames:
        _write_box(file, last, last.at + 1, is_outside=True)
    file.write("</track>\n")


def _write_box(file: TextIO, place: Place, at: int, *, is_outside: bool = False) -> None:
    x_min, y_min, x_max, y_max = place.box
    rotation = ""
    if place.angle:
        rotation = f' rotation="{math.degrees(place.angle) % 360!r}"'
    score = "" if place.score is None else repr(place.score)
    file.write(
        f'<box frame="{at}" outside="{int(is_outside)}" occluded="0" keyframe="1" '
        f'xtl="{x_min!r}" ytl="{y_min!r}" xbr="{x_max!r}" ybr="{y_max!r}"{rotation} z_order="0">'
        f'<attribute name="score">{score}</attribute></box>\n'
    )
