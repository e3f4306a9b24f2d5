"""The link to the process that records: its newest frame, and its targets.

That process has started this one; see `dgrec.recorder.viewer` for the lines that they exchange.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from dgrec.paths import JOURNAL_SUFFIX, SESSION_SUFFIX

#: A picture that came longer ago is not the newest any more.
_FRESH_S: Final = 0.5
#: A recorder that has not answered may have asked for its end meanwhile.
_ASK_AGAIN_S: Final = 2.0


@dataclass(frozen=True)
class Answer:
    """An answer of the recorder: its facts, and a picture as JPEG, or b""."""

    facts: dict[str, Any]
    picture: bytes = b""
    #: When it came, by `time.monotonic`.
    came_s: float = field(default_factory=time.monotonic)


class RecorderLink:
    """Asks the recorder for the pages, once for all that ask the same.

    Args:
        answers: The recorder's answers.
        ask: Sends the recorder a line.
    """

    def __init__(self, answers: BinaryIO, ask: Callable[[str], None]) -> None:
        self._answers = answers
        self._ask = ask
        self._lock = threading.Lock()
        self._newest: dict[tuple[str, str], Answer] = {}
        self._asked_s: dict[tuple[str, str], float] = {}
        self._waiting: dict[tuple[str, str], list[asyncio.Future[Answer | None]]] = {}
        self.is_open = True

    def read(self) -> None:
        """Take answers until the recording has ended."""
        with contextlib.suppress(OSError, ValueError):
            while line := self._answers.readline():
                facts = json.loads(line)
                picture = self._answers.read(facts["size"])
                self._came((facts["kind"], facts["place"]), Answer(facts, picture))
        with self._lock:
            self.is_open = False
            keys = list(self._waiting)
        for key in keys:
            self._came(key, None)

    async def frame(self, session: Path, after_us: int, wait_s: float) -> Answer | None:
        """Return a frame that was captured after a time; None if none comes soon enough."""
        return await self._answer(
            ("frame", _place(session)),
            lambda answer: answer.facts.get("captured_us", after_us + 1) > after_us,
            wait_s,
        )

    async def targets(self, session: Path, wait_s: float) -> list[dict[str, Any]]:
        """Return what waits for each target of a recording, and what it has."""
        answer = await self._answer(("targets", _place(session)), lambda _: True, wait_s)
        return [] if answer is None else answer.facts["targets"]

    async def _answer(
        self, key: tuple[str, str], is_wanted: Callable[[Answer], bool], wait_s: float
    ) -> Answer | None:
        with self._lock:
            now = time.monotonic()
            newest = self._newest.get(key)
            if newest is not None and now - newest.came_s < _FRESH_S and is_wanted(newest):
                return newest
            if not self.is_open:
                return None
            future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(key, []).append(future)
            is_asked = now - self._asked_s.get(key, -_ASK_AGAIN_S) < _ASK_AGAIN_S
            if not is_asked:
                self._asked_s[key] = now
        if not is_asked:
            self._send(key)
        try:
            async with asyncio.timeout(wait_s):
                return await future
        except TimeoutError:
            return None
        finally:
            with self._lock:
                waiting = self._waiting.get(key, [])
                if future in waiting:
                    waiting.remove(future)

    def _send(self, key: tuple[str, str]) -> None:
        kind, place = key
        with contextlib.suppress(OSError, ValueError):  # it has ended; `read` finds that out
            self._ask(json.dumps({kind: place}))

    def _came(self, key: tuple[str, str], answer: Answer | None) -> None:
        with self._lock:
            if answer is not None:
                self._newest[key] = answer
            self._asked_s.pop(key, None)
            waiting = self._waiting.pop(key, [])
        for future in waiting:
            # The server that waits for it may have ended.
            with contextlib.suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(_set, future, answer)


def _set(future: asyncio.Future[Answer | None], answer: Answer | None) -> None:
    if not future.done():
        future.set_result(answer)


def _place(session: Path) -> str:
    name = session.name.removesuffix(JOURNAL_SUFFIX).removesuffix(SESSION_SUFFIX)
    return str(session.absolute().with_name(name))
