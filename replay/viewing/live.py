"""What a recording in progress adds, as Server-Sent Events."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from dgrec.errors import DgrecError
from dgrec.format import stamp_us
from dgrec.replay.viewing.opened import OpenedSession
from dgrec.replay.viewing.recordings import Recordings
from dgrec.replay.viewing.rows import position_at
from dgrec.replay.viewing.values import json_bytes
from dgrec.replay.viewing.workers import Task, Workers
from dgrec.serving import PAGE_HEADERS

__all__ = ["serve_live"]

#: A journal is written once a second.
_LOOK_S: Final = 0.5
_HEARTBEAT_S: Final = 15.0
#: A client is disconnected that has taken nothing for as long.
_PATIENCE_S: Final = 30.0
#: Alerts in one look; more of them are left to the time line.
_MOST_ALERTS: Final = 50


@dataclass
class _State:
    """What a client knows."""

    version: str = ""
    alerts: int = -1
    targets: bytes = b""
    is_over: bool = False
    events: list[tuple[str, Any]] = field(default_factory=list)


async def serve_live(
    request: web.BaseRequest, name: str, recordings: Recordings, workers: Workers
) -> web.StreamResponse:
    """Answer ``/api/live``: ``grew``, ``alert``, ``targets`` and, at the end, ``ended``.

    Each client is told what is there at first, and then what is new; one that does not read is
    told of fewer changes, and then disconnected.
    """
    response = web.StreamResponse(
        headers={
            **PAGE_HEADERS,
            "Content-Type": "text/event-stream; charset=utf-8",
            "X-Accel-Buffering": "no",
        }
    )
    response.force_close()
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    state = _State()
    said_s = time.monotonic()
    while not state.is_over:
        try:
            await workers.run(lambda task: recordings.read(name, lambda of: _look(of, state)))
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


def _look(opened: OpenedSession, state: _State) -> None:
    """Note what is new."""
    if opened.version == state.version:
        return
    state.version = opened.version
    metadata = opened.session.metadata
    state.events.append(("grew", {"n": opened.count, "version": opened.version}))
    alerts = [event for event in metadata.get("events", []) if event.get("kind") == "alert"]
    if state.alerts >= 0:
        for event in alerts[state.alerts :][-_MOST_ALERTS:]:
            state.events.append(("alert", _alert(opened, event)))
    state.alerts = len(alerts)
    targets = json_bytes(metadata.get("targets") or [])
    if targets != state.targets and metadata.get("targets"):
        state.events.append(("targets", metadata["targets"]))
    state.targets = targets
    if not opened.videos.is_growing:
        state.is_over = True
        state.events.append(("ended", {"n": opened.count, "version": opened.version}))


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
