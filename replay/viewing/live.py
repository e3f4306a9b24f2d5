"""News of a recording in progress, as Server-Sent Events, and its newest frame."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from dgrec.errors import DgrecError
from dgrec.format import stamp_us
from dgrec.replay.viewing.opened_session import OpenedSession
from dgrec.replay.viewing.recorder_link import RecorderLink
from dgrec.replay.viewing.recordings import Recordings
from dgrec.replay.viewing.rows import position_at
from dgrec.replay.viewing.values import json_bytes
from dgrec.replay.viewing.workers import CancelledError, Task, Workers
from dgrec.serving import EVENT_HEADERS, PAGE_HEADERS

#: A journal is written twice a second.
_LOOK_S: Final = 0.5
_HEARTBEAT_S: Final = 15.0
#: A client that has read nothing for this long is disconnected.
_PATIENCE_S: Final = 30.0
#: The most alerts reported at once; the time line shows the others.
_MOST_ALERTS: Final = 50
#: Seconds after which it is looked up again what targets have.
_TARGETS_S: Final = 2.0
#: The recorder answers at once, but for its next frame.
_ANSWER_S: Final = 1.0
_NEXT_FRAME_S: Final = 5.0
#: If there is no current picture, the page asks again after this many seconds.
_NO_PICTURE_S: Final = 3


@dataclass
class _State:
    """The state that a client knows."""

    version: str = ""
    #: The alerts that are there; None: it knows nothing yet.
    alerts: Collection[str] | None = None
    #: The targets: what the files say, what was last sent, and when they were looked up.
    recorded: list[dict[str, Any]] = field(default_factory=list)
    targets: bytes = b""
    targets_s: float = 0.0
    is_over: bool = False
    events: list[tuple[str, Any]] = field(default_factory=list)


async def serve_live(
    request: web.BaseRequest,
    name: str,
    recordings: Recordings,
    workers: Workers,
    recorder: RecorderLink | None = None,
) -> web.StreamResponse:
    """Answer ``/api/live``: ``grew``, ``alert``, ``targets`` and, at the end, ``ended``.

    Each client first gets what is there, and then what is new; one that does not read gets fewer
    changes, and is then disconnected.
    """
    response = web.StreamResponse(headers={**PAGE_HEADERS, **EVENT_HEADERS})
    response.force_close()
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    state = _State()
    said_s = time.monotonic()
    while not state.is_over:
        try:
            await workers.run(lambda task: recordings.read(name, lambda of: _look(of, state, task)))
            if state.recorded:
                await _add_targets(state, name, recordings, workers, recorder)
        except CancelledError:
            break
        except (DgrecError, OSError) as error:
            state.events.append(("problem", {"error": str(error)}))
            state.is_over = True
        lines = b"".join(
            b"event: %s\ndata: %s\n\n" % (kind.encode(), json_bytes(value))
            for kind, value in state.events
        )
        state.events.clear()
        now_s = time.monotonic()
        if lines or now_s - said_s > _HEARTBEAT_S:
            async with asyncio.timeout(_PATIENCE_S):
                await response.write(lines or b":\n\n")
            said_s = now_s
        if not state.is_over:
            await asyncio.sleep(_LOOK_S)
    await response.write_eof()
    return response


async def _add_targets(
    state: _State,
    name: str,
    recordings: Recordings,
    workers: Workers,
    recorder: RecorderLink | None,
) -> None:
    """Note what the targets have, and what waits for them if the recorder says so."""
    waiting: dict[str, dict[str, Any]] = {}
    if recorder is not None and recorder.is_open and not state.is_over:
        path = await workers.run(lambda task: recordings.path_of(name))
        for each in await recorder.targets(path, _ANSWER_S):
            waiting[each["target"]] = each
    # Frames not delivered yet may still be: until it ends, only the recorder knows what is lost.
    unknown = {"waiting": None, "problem": ""} | ({} if state.is_over else {"left_out": None})
    names = ("waiting", "problem", "left_out")
    found = []
    for each in state.recorded:
        said = waiting.get(each["target"])
        found.append(each | (unknown if said is None else {name: said[name] for name in names}))
    targets = json_bytes(found)
    if targets != state.targets:
        state.targets = targets
        state.events.append(("targets", found))


def _look(opened: OpenedSession, state: _State, task: Task) -> None:
    """Note what is new."""
    is_over = not opened.videos.is_growing
    metadata = opened.session.metadata
    now_s = time.monotonic()
    if metadata.get("targets") and (is_over or now_s - state.targets_s > _TARGETS_S):
        state.targets_s = now_s
        state.recorded = opened.kept(
            "targets", lambda: opened.own(lambda of, reader: reader.rows(_TARGETS), task)
        )
    if opened.version == state.version:
        return
    state.version = opened.version
    grew = {
        "n": opened.count,
        "first_frame": opened.session.first_frame if opened.count else None,
        "version": opened.version,
    }
    state.events.append(("grew", grew))
    events = metadata.get("events", [])
    alerts = {repr(event): event for event in events if event.get("kind") == "alert"}
    if state.alerts is not None:
        # Not by their number: those of older parts are removed.
        new = [event for key, event in alerts.items() if key not in state.alerts]
        for event in new[-_MOST_ALERTS:]:
            state.events.append(("alert", _alert(opened, event)))
    state.alerts = set(alerts)
    if is_over:
        state.is_over = True
        state.events.append(("ended", grew))


_TARGETS: Final = "SELECT target, frames, delivered, left_out FROM targets ORDER BY target"


def _alert(opened: OpenedSession, event: Any) -> dict[str, Any]:
    fired_us = stamp_us(event.get("to") or event.get("at"))
    t = None
    if fired_us is not None and opened.clock == "captured_at":
        t = (fired_us - opened.began) / 1e6
    return {
        "name": event.get("text"),
        "rule": event.get("rule"),
        "t": t,
        "i": None if t is None else position_at(opened, t, Task()),
    }


async def answer_newest(
    path: Path, after_us: int, recorder: RecorderLink | None
) -> web.StreamResponse:
    """Answer ``/api/newest``: the camera's picture with its overlay, as it was just recorded."""
    if recorder is None or not recorder.is_open:
        return _no_picture()
    answer = await recorder.frame(path, after_us, _NEXT_FRAME_S)
    if answer is None:
        return web.Response(status=204, headers=PAGE_HEADERS)
    if not answer.picture:
        return _no_picture()
    headers = {
        **PAGE_HEADERS,
        "X-Captured-Us": str(answer.facts["captured_us"]),
        "X-Detections": str(answer.facts["detections"]),
        "X-Age-Ms": str(round(time.time() * 1e3 - answer.facts["captured_us"] / 1e3)),
    }
    return web.Response(body=answer.picture, content_type="image/jpeg", headers=headers)


def _no_picture() -> web.Response:
    """Return the answer without a picture: the recorder is another one, or has no pictures."""
    headers = {**PAGE_HEADERS, "Retry-After": str(_NO_PICTURE_S)}
    return web.Response(status=204, headers=headers)
