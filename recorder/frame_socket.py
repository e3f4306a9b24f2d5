"""The newest frames of a program that `dgrec run --view` has started, by a socket.

Each session of the program, in any of its processes, connects and names its place in a line of
JSON: ``{"place": PLACE}``. From then on, questions and answers are those that the page's process
and `dgrec.recorder.viewer` exchange.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

from dgrec.recorder.outputs import NewestFrame, Shown

#: A process that takes or gives nothing for this long gets no further questions.
_PATIENCE_S: Final = 2.0
#: The time after which a connection that could not be accepted is tried again.
_AGAIN_S: Final = 0.05
#: The most bytes of one answer: a picture, or what waits for targets.
_MOST: Final = 64 << 20


class FrameSocket:
    """The socket that the sessions of a program connect to.

    Args:
        answer: Gets each answer, in another thread: its facts, and its picture or b"".

    Raises:
        OSError: There are no such sockets here.
    """

    def __init__(self, answer: Callable[[dict[str, Any], bytes], None]) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self._sessions: dict[str, socket.socket] = {}
        # No other user may connect: the folder is this user's.
        self._folder = Path(tempfile.mkdtemp(prefix="dgrec-frames-"))
        self.address = str(self._folder / "view")
        try:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self.address)
            self._listener.listen()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        threading.Thread(target=self._accept, name="dgrec-view", daemon=True).start()

    def ask(self, kind: str, place: str) -> bool:
        """Ask the session at a place; return whether there is one."""
        with self._lock:
            session = self._sessions.get(place)
        if session is None:
            return False
        try:
            session.sendall(json.dumps({kind: place}).encode() + b"\n")
        except OSError:  # half of a question may be on its way
            _shut(session)
            with self._lock:
                if self._sessions.get(place) is session:
                    del self._sessions[place]
            return False
        return True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self) -> None:
        while self._listener.fileno() >= 0:
            try:
                session, _ = self._listener.accept()
            except OSError:  # closed; or this process has too many files open
                time.sleep(_AGAIN_S)
                continue
            threading.Thread(
                target=self._read, args=(session,), name="dgrec-view", daemon=True
            ).start()

    def _read(self, session: socket.socket) -> None:
        place = ""
        with session, session.makefile("rb") as stream, contextlib.suppress(OSError, ValueError):
            _be_patient(session)
            place = str(json.loads(stream.readline())["place"])
            with self._lock:
                self._sessions[place] = session
            while line := stream.readline():
                facts = json.loads(line)
                if facts["place"] == place and 0 <= facts["size"] <= _MOST:
                    self._answer(facts, stream.read(facts["size"]))
        with self._lock:
            if self._sessions.get(place) is session:
                del self._sessions[place]


def offer_frames(frames: NewestFrame, address: str) -> None:
    """Offer the frames of a session to the page's process that listens at an address, if any."""
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(_PATIENCE_S)
    try:
        link.connect(address)
        link.sendall(json.dumps({"place": frames.place}).encode() + b"\n")
        _be_patient(link)
    except OSError:  # no page, then
        link.close()
        return
    lock = threading.Lock()

    def answer(kind: str, facts: dict[str, Any], picture: bytes = b"") -> None:
        line = {"kind": kind, "place": frames.place, **facts, "size": len(picture)}
        try:
            with lock:
                link.sendall(json.dumps(line).encode() + b"\n" + picture)
        except OSError:
            close()  # half of an answer may be on its way

    def show(_: NewestFrame, shown: Shown) -> None:
        facts = shown._asdict()
        answer("frame", facts, facts.pop("jpeg"))

    def read() -> None:
        with link.dup() as reading, reading.makefile("rb") as stream:
            _take_questions(stream, frames, answer)
        with lock:
            link.close()

    def close() -> None:
        _shut(link)

    frames.shown, frames.ended = show, close
    threading.Thread(target=read, name="dgrec-view", daemon=True).start()


def _be_patient(link: socket.socket) -> None:
    """Let sending wait for `_PATIENCE_S` at most, and reading as long as it takes.

    Python's own timeout covers both, and there is none once a copy of the socket waits.
    """
    seconds = int(_PATIENCE_S)
    limit = struct.pack("ll", seconds, round((_PATIENCE_S - seconds) * 1e6))
    link.settimeout(None)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _shut(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)


def _take_questions(
    stream: BinaryIO, frames: NewestFrame, answer: Callable[[str, dict[str, Any]], None]
) -> None:
    with contextlib.suppress(OSError, ValueError):
        for line in stream:
            asked = json.loads(line)
            if "frame" in asked:
                frames.ask()
            else:
                answer("targets", {"targets": frames.targets()})
