"""Contents of an export for one session: the answers of the endpoints, in parts.

===============  ==================================================================================
key              value
===============  ==================================================================================
``session``      the card, and where the parts are (`Contents` in ``page/src/files.ts``)
``rows-K``       ``/api/rows`` of so many rows
``overlay-K``    ``/api/overlay`` of some rows
``details-K``    ``/api/row`` of some rows, in a list
``lines-L-K``    ``/api/series`` of all lines, with ``/api/marks``, for a part of the time line: L
                 counts from the whole of it in 2,048 pixels to a pixel for each frame
``next``         the positions of all marks, by their kind
``answer-N``     ``/api/sql`` of a question of the library
``why``          ``/api/why``
``video-K.mp4``  a video
``thumb.jpg``    ``/api/thumb``
===============  ==================================================================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from dgrec.errors import DgrecError, first_line
from dgrec.replay.viewing import card, pictures, rows, statements
from dgrec.replay.viewing.bounded_rows import bounded_rows
from dgrec.replay.viewing.marks import KINDS, lane
from dgrec.replay.viewing.opened_session import OpenedSession
from dgrec.replay.viewing.overlay import Drawings
from dgrec.replay.viewing.parameters import Parameters
from dgrec.replay.viewing.previews import Preview
from dgrec.replay.viewing.questions import ANSWERS, STATEMENTS
from dgrec.replay.viewing.targets import Target
from dgrec.replay.viewing.values import json_bytes
from dgrec.replay.viewing.workers import Task
from dgrec.session import RecordedResult

#: Rows in a part; `Files.rows` relies on a multiple of what the page asks for at a time.
_ROWS: Final = 1000
#: Rows in a part of what is drawn, unless that is large.
_DRAWN: Final = 300
#: A part of details ends after this many rows, or bytes.
_DETAILED, _DETAILED_LENGTH = 500, 2_000_000
#: Pixels of a part of the time line, parts that each is cut into at the next level, and levels.
_WIDTH, _FACTOR, _MOST_LEVELS = 2048, 4, 8
#: The most labels and signals that have a line.
_MOST_LABELS, _MOST_SIGNALS = 12, 12
#: The most rows of an answer to a question of the library.
_MOST_ANSWERED: Final = 500


class Contents:
    """Writes the contents of an export for one session.

    Args:
        folder: The beginning of its keys.
        videos: Names of the files of its videos, by their number.
        preview: The video that was made of its pictures, if one was, with the number 0.
        note: A note on its pictures, in a line.
        name: A name instead of its own.
        progress: Called with the number of rows drawn, and that of all rows.
        has_file: Whether commands on the page can name its file: one that was made to be exported
            is removed.
    """

    def __init__(
        self,
        opened: OpenedSession,
        folder: str,
        target: Target,
        videos: Mapping[int, str],
        preview: Preview | None = None,
        note: str = "",
        name: str = "",
        progress: Callable[[int, int], None] = lambda done, total: None,
        *,
        has_file: bool = True,
    ) -> None:
        self._opened, self._folder, self._target = opened, folder, target
        self._videos, self._preview, self._note = videos, preview, note
        self._name, self._progress, self._has_file = name, progress, has_file
        self._task = Task()
        self._count = opened.count

    def write(self, *, has_thumb: bool = True, is_short: bool = False) -> bool:
        """Write everything but the videos; return whether there is a thumbnail.

        Args:
            has_thumb: Whether one may be made: it shows the recorded pictures.
            is_short: Leave out the thumbnail and the answers to the library's questions.
        """
        found = self._card()
        contents = {
            "card": found,
            "rows": self._rows(),
            **self._drawn_and_detailed(),
            "levels": self._lines(found),
            "videos": {str(number): name for number, name in self._videos.items()},
        }
        self._put("next", self._next())
        self._put("why", self._ask("/api/why"))
        self._put("session", contents)
        if is_short:
            return False
        for number, question in enumerate(statements.questions()):
            given = Parameters({"q": question["sql"], "limit": str(_MOST_ANSWERED)})
            answer = STATEMENTS["/api/sql"](self._opened, given, self._task)
            self._put(f"answer-{number}", answer)
        return has_thumb and self._thumb()

    def _put(self, key: str, value: Any) -> None:
        self._target.put(f"{self._folder}/{key}", value)

    def _ask(self, path: str, **parameters: Any) -> Any:
        given = Parameters({name: str(value) for name, value in parameters.items()})
        return ANSWERS[path](self._opened, given, self._task)

    def _card(self) -> dict[str, Any]:
        found = card.card(self._opened, Parameters({}), self._task)
        videos = [
            {**video, "url": self._videos[video["k"]]}
            for video in found["videos"]
            if video["k"] in self._videos
        ]
        if self._preview is not None:
            first = {
                "k": 0,
                "url": self._videos[0],
                "kind": "raw",
                "mime": "video/mp4",
                "codec": "h264",
                "bytes": None,
                "width": self._preview.width,
                "height": self._preview.height,
                "note": "a copy for browsers",
            }
            videos = [first]
        note = self._note or found["picture_note"]
        name = self._name or found["name"]
        # Without its folder: an export is made to be given away.
        facts = [(key, value) for key, value in found["facts"] if key != "path"]
        path = Path(found["path"]).name if self._has_file else ""
        lines = list(_line_names(found))
        shown = {
            "name": name,
            "path": path,
            "facts": facts,
            "videos": videos,
            "picture_note": note,
        }
        return {**found, **shown, "lines": lines}

    # --- rows ---

    def _rows(self) -> dict[str, Any]:
        ranges: dict[str, list[Any]] = {"frame": [], "t": [], "media": []}
        for start in range(0, self._count, _ROWS):
            stop = min(start + _ROWS, self._count)
            given = Parameters({"from": str(start), "to": str(stop)})
            answer = rows.rows(self._opened, given, self._task)
            if self._preview is not None:
                answer |= self._preview.shown(start, stop)
            answer = self._with_known_videos(answer)
            self._put(f"rows-{start // _ROWS}", answer)
            for name, column in (("frame", "frame"), ("t", "t"), ("media", "media_s")):
                ranges[name].append(_range(answer[column]))
        return {"size": _ROWS, **ranges}

    def _with_known_videos(self, answer: dict[str, Any]) -> dict[str, Any]:
        if all(number < 0 or number in self._videos for number in answer["video"]):
            return answer
        pairs = zip(answer["video"], answer["state"], strict=True)
        states = [
            state if number < 0 or number in self._videos else "the video is not in this export"
            for number, state in pairs
        ]
        known = [number if number in self._videos else -1 for number in answer["video"]]
        return {**answer, "video": known, "state": states}

    def _drawn_and_detailed(self) -> dict[str, list[int]]:
        """Write what is drawn over rows, and all that was recorded of them."""
        session = self._opened.session
        starts: dict[str, list[int]] = {"overlay": [], "details": []}
        drawn, details, length = Drawings(session, 0), list[bytes](), 0
        drawn_from = detailed_from = 0
        found = bounded_rows(session, 0, self._count)
        for position, (row, note) in enumerate(found):
            result, reason = self._restored(row)
            # Before it is drawn: PySDK might change it.
            details.append(self._detail(position, row, result, note or reason))
            length += len(details[-1])
            drawn.add(row, note, result)
            end = position + 1
            if drawn.is_full or end % _DRAWN == 0 or end == self._count:
                self._put(f"overlay-{len(starts['overlay'])}", drawn.answer())
                starts["overlay"].append(drawn_from)
                drawn, drawn_from = Drawings(session, end), end
            if len(details) == _DETAILED or length > _DETAILED_LENGTH or end == self._count:
                self._put_details(len(starts["details"]), details)
                starts["details"].append(detailed_from)
                details, length, detailed_from = [], 0, end
            self._progress(end, self._count)
        return starts

    def _restored(self, row: Mapping[str, Any]) -> tuple[RecordedResult | None, str]:
        """Return the result of a row; None, and why, if it has none that can be read."""
        if row["detections"] is None:
            return None, ""
        try:
            return self._opened.session.restored(row, self._opened.session.metadata), ""
        except DgrecError as error:
            return None, first_line(error)

    def _detail(
        self, position: int, row: Mapping[str, Any], result: RecordedResult | None, note: str
    ) -> bytes:
        if result is None:
            return json_bytes({"i": position, "frame": row["frame"], "note": note})
        return json_bytes(rows.details(position, result))

    def _put_details(self, number: int, details: Sequence[bytes]) -> None:
        data = b"[" + b",".join(details) + b"]"
        self._target.put_json(f"{self._folder}/details-{number}", data)

    # --- the time line ---

    def _lines(self, found: Mapping[str, Any]) -> list[int]:
        """Write the time line at several widths; return the number of parts of each."""
        names = ",".join(map(_quoted, found["lines"]))
        whole = self._part(names)
        self._put("lines-0-0", whole)
        levels = [1]
        length_us = round((whole["to"] - whole["from"]) * 1e6)
        first_us = round(whole["from"] * 1e6)
        # Until a pixel holds no more than a frame.
        while (
            len(levels) < _MOST_LEVELS
            and levels[-1] * _WIDTH < self._count
            and length_us > levels[-1] * _WIDTH * _FACTOR
        ):
            parts = levels[-1] * _FACTOR
            edges = [first_us + round(length_us * k / parts) for k in range(parts + 1)]
            for k in range(parts):
                last_us = edges[k + 1] - (0 if k + 1 == parts else 1)
                stretch = {"from": edges[k] / 1e6, "to": last_us / 1e6}
                self._put(f"lines-{len(levels)}-{k}", self._part(names, stretch))
            levels.append(parts)
        return levels

    def _part(self, names: str, stretch: Mapping[str, float] | None = None) -> dict[str, Any]:
        given = {**(stretch or {}), "width": _WIDTH}
        lines = self._ask("/api/series", names=names, **given)
        return {**lines, "marks": self._ask("/api/marks", **given)}

    def _next(self) -> dict[str, list[int]]:
        def positions(session: Any, reader: Any) -> dict[str, list[int]]:
            return {
                kind: np.unique(lane(session, reader, name).positions).tolist()
                for kind, name in KINDS.items()
            }

        return self._opened.own(positions, self._task)

    def _thumb(self) -> bool:
        with contextlib.suppress(DgrecError, AttributeError, ImportError):
            data = pictures.thumbnail(self._opened, Parameters({}), self._task)
            self._target.put_file(f"{self._folder}/thumb.jpg", data)
            return True
        return False


def _line_names(found: Mapping[str, Any]) -> Iterator[str]:
    yield from found["stages"]
    if {"latency_ms", "inference_ms"} <= set(found["stages"]):
        yield "waiting_ms"
    yield from ("fps", "detections")
    for each in found["labels"][:_MOST_LABELS]:
        yield f"label:{each['label']}"
    for signal in found["signals"][:_MOST_SIGNALS]:
        yield f"signal:{signal['name']}"


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe=":")


def _range(values: Sequence[float | None]) -> list[float] | None:
    known = [float(value) for value in values if isinstance(value, int | float)]
    return [min(known), max(known)] if known else None
