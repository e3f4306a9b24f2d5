"""An encoder in a process of its own, which is replaced if the encoder does not return."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil  # type: ignore[import-untyped]

from dgrec.errors import VideoError
from dgrec.processes import module_command
from dgrec.recorder.video.codecs import Codec
from dgrec.units import counted
from dgrec.video import MICROSECOND, import_av

_PROGRAM = "dgrec.recorder.video.encoder_program"
#: The process has stopped if it used no processor time in this many looks, one after the other,
#: and did not wait for any.
_LOOKS = 5
_LOOK_S = 1.0
#: How often a picture is tried.
_ATTEMPTS = 3


class _Picture(NamedTuple):
    """A picture that is sent to the process, which answers with packets, as tuples."""

    pts_us: int
    is_key: bool
    pixels: np.ndarray[Any, np.dtype[np.uint8]]


class EncoderProcess:
    """Encodes pictures in another process. If that stops or ends, a new one goes on.

    The new one begins with the pictures whose packets have not come back, the first of them as a
    key frame. So its packets go into the same file, and none is missing.
    """

    def __init__(self, codec: Codec, quality: int, size: tuple[int, int]) -> None:
        self._settings = (codec.name, quality, size)
        #: How often the process was replaced.
        self.restarts = 0
        self._waiting: list[_Picture] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        #: How many messages were sent, and whether the last one still waits for its answer.
        self._sent = 0
        self._is_asked = False
        #: Set once the current process and its connection must not be touched any more.
        self._is_over = threading.Event()
        self._lock = threading.Lock()

    def encode(self, picture: Any, pts_us: int, *, is_key: bool) -> list[Any]:
        """Return the packets that come of a picture in the codec's pixel format.

        Raises:
            VideoError: The encoder failed, or stops at this picture each time.
        """
        self._waiting.append(_Picture(pts_us, is_key, picture.to_ndarray()))
        return self._exchange(self._waiting[-1])

    def finish(self) -> list[Any]:
        """Return the packets that the encoder still holds, and end the process.

        Raises:
            VideoError: As for `encode`.
        """
        packets = self._exchange(None)
        self.close()
        return packets

    def close(self) -> None:
        """End the process, whatever it does."""
        with self._lock:
            self._is_over.set()
        pipe, self._pipe = self._pipe, None
        process, self._process = self._process, None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.kill()
            process.wait()

    # --- inside ---

    def _exchange(self, last: _Picture | None) -> list[Any]:
        """Send a picture, or None at the end; return the packets that come back."""
        packets: list[Any] = []
        messages = [last]
        for _ in range(_ATTEMPTS):
            try:
                for message in messages:
                    self._take(self._answer(self._ready(), message), packets)
                return packets
            except (EOFError, OSError):
                self.close()
                self.restarts += 1
            messages = [*self._waiting]
            if last is None and messages:
                messages.append(None)
        raise VideoError(f"it stopped {counted(_ATTEMPTS, 'time')} at the same picture")

    def _ready(self) -> Connection:
        """Return the connection to the process, which is started if there is none."""
        if self._pipe is not None:
            return self._pipe
        try:
            self._pipe, other = multiprocessing.Pipe()
            with other:
                self._process = subprocess.Popen(
                    module_command(_PROGRAM),
                    # Any other descriptor could get the number of its standard output, if this
                    # program has closed its own.
                    stdin=other.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the recording, which goes on to its end
                )
            self._is_over = threading.Event()
            threading.Thread(
                target=self._watch,
                args=(self._process, self._pipe, self._is_over),
                name="dgrec-encoder",
                daemon=True,
            ).start()
        except (OSError, RuntimeError) as error:  # the latter: no thread
            reason = getattr(error, "strerror", None) or str(error)
            raise VideoError(f"its process cannot be started: {reason}") from None
        self._pipe.send(self._settings)
        return self._pipe

    def _answer(self, pipe: Connection, message: _Picture | None) -> Any:
        """Send a message and return its answer; both wait as long as the process lives."""
        self._sent += 1
        self._is_asked = True
        try:
            pipe.send(message)
            return pipe.recv()
        finally:
            self._is_asked = False

    def _watch(
        self, process: subprocess.Popen[bytes], pipe: Connection, is_over: threading.Event
    ) -> None:
        """End the process if it does nothing although an answer is waited for."""
        before: object = None
        looks = 0
        while looks < _LOOKS:
            if is_over.wait(_LOOK_S):
                return
            now = self._sent, _processor_time(process.pid)
            is_idle = now == before and self._is_asked and not _is_at_work(process.pid)
            before, looks = now, looks + 1 if is_idle else 0
        with self._lock:
            if not is_over.is_set():
                process.kill()
                # Others may hold its side of the pipe: a program that forks has both for a moment.
                _shut(pipe)

    def _take(self, answer: Any, packets: list[Any]) -> None:
        if isinstance(answer, str):
            raise VideoError(answer)
        for data, pts, dts, duration, is_key in answer:
            packet = import_av().Packet(data)
            packet.pts, packet.dts, packet.time_base = pts, dts, MICROSECOND
            packet.duration, packet.is_keyframe = duration, is_key
            packets.append(packet)
            self._waiting = [picture for picture in self._waiting if picture.pts_us != pts]


def _shut(pipe: Connection) -> None:
    """Make everything that waits at a connection fail."""
    with contextlib.suppress(OSError):
        connection = socket.socket(fileno=pipe.fileno())
        try:
            connection.shutdown(socket.SHUT_RDWR)
        finally:
            connection.detach()


def _processor_time(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0


def _is_at_work(pid: int) -> bool:
    """Return whether a thread of a process runs, or waits for the processor or a disk.

    If others are busy, a process of low priority may get no time for longer than all looks.
    """
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError):  # it has ended
        for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
            if stat.read_bytes().rpartition(b")")[2].split()[0] in (b"R", b"D"):
                return True
    return False
