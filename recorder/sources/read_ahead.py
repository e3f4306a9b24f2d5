"""Reads footage from a network or a pipe in a thread of its own, since it may have to wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from dgrec.recorder.sources.source import Source, SourceReader
from dgrec.video import Picture

#: How many pictures are read ahead.
_MOST = 2
_LOOK_S = 0.05
#: How long opening may take before a line says what it waits for.
_SAY_AFTER_S = 1.0


class ReadAhead:
    """Reads the pictures of a source one or two ahead.

    A read that hangs in the network or on a pipe cannot be interrupted; its thread is abandoned.
    """

    def __init__(self, reader: SourceReader) -> None:
        self._reader = reader
        self._changed = threading.Condition()
        self._pictures: deque[Picture] = deque()
        self._is_over = False
        self._is_released = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="dgrec-source", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the next picture or the end; return whether `read` can return at once."""
        with self._changed:
            return self._changed.wait_for(self._is_due, timeout_s)

    def read(self) -> Picture | None:
        """Return the next picture; None at the end, or once it is released."""
        with self._changed:
            while not self._changed.wait_for(self._is_due, _LOOK_S):
                pass  # in steps, so that signals are handled
            if self._pictures:
                picture = self._pictures.popleft()
                self._changed.notify_all()
                return picture
            if self._error is not None:  # once the pictures before it have been handed out
                raise self._error
            return None

    def release(self) -> None:
        with self._changed:
            self._is_released = True
            self._pictures.clear()
            self._changed.notify_all()
        self._reader.release()

    def _is_due(self) -> bool:
        return bool(self._pictures) or self._is_over or self._is_released

    def _run(self) -> None:
        picture: Picture | None = None
        try:
            while (picture := self._reader.read()) is not None:
                with self._changed:
                    self._pictures.append(picture)
                    self._changed.notify_all()
                    while len(self._pictures) >= _MOST and not self._is_released:
                        self._changed.wait()
                    if self._is_released:
                        return
        except BaseException as error:  # `read` raises it, and does not wait for ever
            self._error = error
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()


def open_patiently(
    source: Source, open_: Callable[[], SourceReader], say: Callable[[str], None]
) -> SourceReader:
    """Open a source in a thread, so that Ctrl-C ends the program whatever it waits for.

    Args:
        open_: Opens it.
        say: Called with a line that says what is waited for, if it takes long.

    Raises:
        SourceError: It cannot be opened.
    """
    if source.kind == "camera":
        return open_()  # some systems ask the user for permission in the main thread only
    opened: list[SourceReader] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            opened.append(open_())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="dgrec-source-open", daemon=True)
    thread.start()
    thread.join(_SAY_AFTER_S)
    if thread.is_alive() and source.kind == "pipe":
        say(f"{source.given}: waiting for what writes to this pipe")
    while thread.is_alive():
        thread.join(_LOOK_S)
    if failed:
        raise failed[0]
    return opened[0]
