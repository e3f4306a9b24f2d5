"""Inference on an AI server: noticing that the server is lost, and reconnecting."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped]

from dgrec.credentials import redact
from dgrec.errors import DgrecError, ModelError
from dgrec.recorder.capture import Capture, Feed
from dgrec.recorder.model import LoadedModel

#: Silence after which a server counts as lost: while recording, and once the recording is to end.
#: A slow model gets longer: several times what its last results took.
_SILENCE_S = 5.0
_SILENCE_AT_END_S = 2.0
_TIMES_LATELY = 4
#: Until the first result: the server may still be loading the model.
_FIRST_RESULT_S = 60.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_LOOK_S = 0.05
#: How often the connection is checked.
_CONNECTION_S = 0.2
_DEFAULT_PORT = 8778


@dataclass
class Outage:
    """A time without the server, and the attempts to reconnect."""

    reason: str
    seconds: float = 0.0
    attempts: int = 0
    back: bool = False
    #: Why the last attempt to load the model again failed.
    refusal: str = ""


class ServerLostError(Exception):
    """The AI server gives no more results."""


class Inference:
    """The place where a model runs. This base class: this process, where every failure is final."""

    name = "this process"

    def feed(self, capture: Capture, model: Any) -> Any:
        """Return what `predict_stream` reads from."""
        return capture

    def silence(self, capture: Capture, model: Any) -> str:
        """Return why no more results are to be expected; "" if they are."""
        return ""

    def may_be_lost(self, error: DgrecError) -> bool:
        """Return whether loading the model again may help."""
        return False

    def reconnect(self, reason: str, capture: Capture) -> tuple[LoadedModel | None, Outage]:
        """Load the model again, if that may help."""
        return None, Outage(reason)

    def gave_up(self, capture: Capture, outage: Outage) -> bool:
        """Return whether the model could not be loaded although the recording should go on."""
        return True

    def error(self, outage: Outage) -> ModelError:
        return ModelError(outage.reason)

    def give_up(self, capture: Capture) -> None:
        """Count the frames that will get no result."""

    def end(self, stream: Iterator[Any]) -> None:
        """Run PySDK to its end: closed in the middle, it may print a traceback of its own."""
        with contextlib.suppress(Exception):
            for _ in stream:
                pass

    def abandon(self, stream: Iterator[Any]) -> None:
        """Leave a stream that gives no more results."""
        self.end(stream)


HERE = Inference()


class AIServer(Inference):
    """An AI server that a model runs on.

    PySDK keeps taking frames for a server that died, and keeps reading from the closed connection,
    each time into new memory (400 MB a second); for a server that hangs it waits in its core for as
    long as the inference timeout (100 s). So it is given no more frames than its queue takes
    (`queue_depth`), and the model is loaded again once the connection is closed, or results are
    overdue.

    Args:
        host: Its address, as the user gave it.
        load: Loads the model again; raises ModelError while that does not work.
        reconnect_for_s: How long to try; None means for ever.
        announce: Called with a line when the server is lost, and when it is back. Must not wait.
    """

    def __init__(
        self,
        host: str,
        load: Callable[[], LoadedModel],
        *,
        reconnect_for_s: float | None = None,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = f"AI server {redact(host)}"
        self._load = load
        self._reconnect_for_s = reconnect_for_s
        self._announce = announce
        port = host.rpartition(":")[2]
        self._port = int(port) if port.isdecimal() else _DEFAULT_PORT
        self._looked = 0.0
        self._is_connected = False
        self._feed: Feed | None = None

    def feed(self, capture: Capture, model: Any) -> Feed:
        capture.most_waiting = self.queue_depth(model)
        self._feed = Feed(capture)
        return self._feed

    def may_be_lost(self, error: DgrecError) -> bool:
        return isinstance(error, ModelError)

    def give_up(self, capture: Capture) -> None:
        capture.take_back()

    def end(self, stream: Iterator[Any]) -> None:
        _close_beside(stream)

    def abandon(self, stream: Iterator[Any]) -> None:
        if self._feed is not None:
            self._feed.is_abandoned = True
        _close_beside(stream)

    @staticmethod
    def queue_depth(model: Any) -> int:
        """Return how many frames PySDK takes before it would wait for the server."""
        depth = getattr(model, "frame_queue_depth", None)
        return depth if isinstance(depth, int) and depth > 0 else 8

    def silence(self, capture: Capture, model: Any) -> str:
        if self._is_cut_off():
            return "it closed the connection"
        longest = capture.longest_wait_s
        if longest is not None:
            least = _SILENCE_AT_END_S if capture.was_interrupted else _SILENCE_S
            patience = min(max(least, _TIMES_LATELY * longest), _FIRST_RESULT_S)
        elif capture.was_interrupted:
            patience = _SILENCE_AT_END_S
        else:
            timeout = float(getattr(model, "inference_timeout_s", _FIRST_RESULT_S))
            patience = min(timeout, _FIRST_RESULT_S)
        overdue = capture.overdue_s()
        return f"no result for {overdue:.1f} s" if overdue >= patience else ""

    def reconnect(self, reason: str, capture: Capture) -> tuple[LoadedModel | None, Outage]:
        """Load the model again, with growing pauses, until that works or there is no more time."""
        outage = Outage(reason)
        begun = time.monotonic()
        loaded = None
        if not capture.was_interrupted:
            self._announce(f"{self.name}: lost ({reason}); trying to get it back")
            loaded = self._try(outage, capture, begun)
        outage.seconds = time.monotonic() - begun
        if loaded is not None:
            outage.back = True
            self._announce(f"{self.name}: back after {outage.seconds:.1f} s")
        return loaded, outage

    def error(self, outage: Outage) -> ModelError:
        limit = self._reconnect_for_s or 0
        patience = f", and not back within {limit:g} s" if limit else ""
        return ModelError(f"{self.name}: lost{patience} ({outage.refusal or outage.reason})")

    # --- inside ---

    def _is_cut_off(self) -> bool:
        """Return whether this process has lost its connection to the server."""
        now = time.monotonic()
        if now - self._looked < _CONNECTION_S:
            return False
        self._looked = now
        try:
            connections = psutil.Process().net_connections("tcp")
        except (psutil.Error, OSError):  # then only silence can show it
            return False
        is_open = any(
            connection.raddr
            and connection.raddr.port == self._port
            and connection.status == psutil.CONN_ESTABLISHED
            for connection in connections
        )
        was_connected, self._is_connected = self._is_connected, is_open
        return was_connected and not is_open

    def _try(self, outage: Outage, capture: Capture, begun: float) -> LoadedModel | None:
        pause_s = _FIRST_PAUSE_S
        while not self._is_over(capture):
            left_s = self._left_s(begun)
            if left_s <= 0:
                return None
            outage.attempts += 1
            found = self._attempt(capture, left_s)
            if isinstance(found, LoadedModel):
                return found
            outage.refusal = found or outage.refusal
            capture.wait_for_stop(min(pause_s, max(0.0, self._left_s(begun))))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        return None

    def gave_up(self, capture: Capture, outage: Outage) -> bool:
        return not outage.back and not self._is_over(capture)

    def _left_s(self, begun: float) -> float:
        if self._reconnect_for_s is None:
            return float("inf")
        return self._reconnect_for_s - (time.monotonic() - begun)

    def _is_over(self, capture: Capture) -> bool:
        return capture.was_interrupted or capture.is_time_up()

    def _attempt(self, capture: Capture, left_s: float) -> LoadedModel | str:
        """Load the model in another thread; return it, or why that did not work."""
        outcome: list[LoadedModel | str] = []

        def load() -> None:
            try:
                outcome.append(self._load())
            except DgrecError as error:
                outcome.append(str(error))
            except Exception as error:  # a defect must not hang the recording
                outcome.append(repr(error))

        thread = threading.Thread(target=load, name="dgrec-server-load", daemon=True)
        thread.start()
        due = time.monotonic() + left_s
        # PySDK waits 10 s for a server that hangs; the end of the recording need not.
        while thread.is_alive() and not self._is_over(capture) and time.monotonic() < due:
            thread.join(_LOOK_S)
        return outcome[0] if outcome else ""


class _Silence:
    """Python reports no exceptions that nobody can catch while anything is in this block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._usual = sys.unraisablehook

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._usual, sys.unraisablehook = sys.unraisablehook, lambda _: None
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                sys.unraisablehook = self._usual


_silence = _Silence()


def _close_beside(stream: Iterator[Any]) -> None:
    """Close a stream of results in a thread, which may hang while the server does not answer."""

    def close() -> None:
        # PySDK's inner generator complains, on stderr, that it was closed while it had results.
        # What it raises is one more report that the server is lost.
        with _silence, contextlib.suppress(Exception):
            stream.close()  # type: ignore[attr-defined]

    if hasattr(stream, "close"):
        threading.Thread(target=close, name="dgrec-server-close", daemon=True).start()
