"""``--view``: the page of `dgrec view`, in a process of its own, beside a recording.

The process says on its standard output, a line each: first the address of the page, then what it
asks for, as JSON: ``{"frame": PLACE}`` (the next frame as a picture), ``{"targets": PLACE}``, or
``{"stays": true}`` (a page is open: it does not end with the recording). On its standard input it
gets a line of JSON for each answer, with the ``size`` of the picture that follows it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from dgrec.processes import module_command
from dgrec.recorder.frame_socket import FrameSocket
from dgrec.recorder.outputs import NewestFrame, Shown
from dgrec.recorder.signals import usual_signals

#: The niceness of the process: it gets less of the processor than the recording.
_NICE: Final = 10
_END_S: Final = 5.0


class Viewer:
    """The process that shows what is recorded, until `close`, or until its pages are closed.

    It ends when this process is killed, too. If the page cannot be shown, the recording goes on
    without it. It gets pictures of the recordings whose output was given to `add`.

    Args:
        session: The session that is shown first; "": the list.
        say: Gets the address, in another thread.
    """

    def __init__(self, folders: Sequence[Path], session: str, say: Callable[[str], None]) -> None:
        self._say = say
        self._frames: dict[str, NewestFrame] = {}
        #: Answers that are to be sent: the newest of each kind and recording.
        self._answers: dict[tuple[str, str], tuple[dict[str, Any], bytes]] = {}
        self._changed = threading.Condition()
        self._is_closing = False
        #: Set when the process ends, or says that it stays.
        self._is_settled = threading.Event()
        self._stays = False
        self._socket: FrameSocket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        arguments = ["view", *map(str, folders), "--of-recorder", session]
        try:
            with usual_signals():
                self._process = subprocess.Popen(
                    module_command("dgrec", *arguments),
                    stdin=subprocess.PIPE,  # closed when this process ends
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C ends the recording; the page ends after it
                )
        except OSError as error:
            say(f"No page: {error.strerror}")
            return
        if hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICE)
        self._threads = [
            threading.Thread(target=work, args=(self._process,), name="dgrec-view", daemon=True)
            for work in (self._read, self._write)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, frames: NewestFrame) -> None:
        """Show the pictures of a recording while it goes on."""
        frames.shown = self._show
        self._frames[frames.place] = frames

    def listen(self) -> str:
        """Show the pictures of other processes as well; return the address for `offer_frames`.

        It is "" if there are no such sockets here: the page shows what is recorded.
        """
        try:
            self._socket = FrameSocket(self._put)
        except (OSError, AttributeError):
            return ""
        return self._socket.address

    def close(self) -> None:
        """End the process, unless a page is open; then say so."""
        if self._socket is not None:
            self._socket.close()
        process = self._process
        if process is None or self._is_closing:
            return
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if not self._is_settled.wait(_END_S):
            process.kill()  # it does not read
        if self._stays:
            self._say("The page stays until it is closed.")
            # Waited for, so that it does not look like a forgotten process.
            threading.Thread(target=process.wait, daemon=True).start()
            return
        process.wait()
        for thread in self._threads:
            thread.join()

    # --- inside ---

    def _show(self, frames: NewestFrame, shown: Shown) -> None:
        """Take a picture; another thread, which may wait, sends it."""
        facts = shown._asdict()
        picture = facts.pop("jpeg")
        self._answer("frame", frames.place, facts, picture)

    def _answer(self, kind: str, place: str, facts: dict[str, Any], picture: bytes = b"") -> None:
        self._put({"kind": kind, "place": place, **facts, "size": len(picture)}, picture)

    def _put(self, line: dict[str, Any], picture: bytes) -> None:
        with self._changed:
            self._answers[line["kind"], line["place"]] = line, picture
            self._changed.notify_all()

    def _write(self, process: subprocess.Popen[bytes]) -> None:
        stream = process.stdin
        assert stream is not None
        with contextlib.suppress(OSError), stream:  # it has ended
            while True:
                with self._changed:
                    while not (self._answers or self._is_closing):
                        self._changed.wait()
                    if self._is_closing:
                        return
                    answers = list(self._answers.values())
                    self._answers.clear()
                for line, picture in answers:
                    stream.write(json.dumps(line).encode() + b"\n" + picture)
                stream.flush()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdout, process.stderr:
            address = process.stdout.readline().decode(errors="replace").strip()
            if address:
                self._say(f"Watch the recording at {address}")
            for line in process.stdout:
                self._take(json.loads(line))
                if self._stays:
                    return
            self._is_settled.set()
            errors = process.stderr.read().decode(errors="replace").strip()
        if not address:
            last = errors.splitlines()[-1].removeprefix("Error: ") if errors else "it ended"
            self._say(f"No page: {last}")

    def _take(self, asked: dict[str, Any]) -> None:
        if asked.get("stays"):
            self._stays = True
            self._is_settled.set()
        for kind, place in asked.items():
            frames = self._frames.get(str(place))
            if frames is None and self._socket is not None and self._socket.ask(kind, str(place)):
                continue
            if kind == "frame" and frames is not None:
                frames.ask()
            elif kind == "frame":
                self._answer(kind, str(place), {"problem": "it is not recorded here"})
            elif kind == "targets":
                targets = [] if frames is None else frames.targets()
                self._answer(kind, str(place), {"targets": targets})


@contextlib.contextmanager
def viewing(
    folders: Sequence[Path],
    session: str,
    say: Callable[[str], None],
    frames: Sequence[NewestFrame] = (),
    *,
    is_on: bool = True,
) -> Iterator[Viewer | None]:
    """Show the sessions in folders while the block runs; see `Viewer`."""
    if not is_on:
        yield None
        return
    viewer = Viewer(folders, session, say)
    try:
        for each in frames:
            viewer.add(each)
        yield viewer
    finally:
        viewer.close()
