"""An encoder in a process of its own, which is replaced where the encoder does not return."""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import psutil  # type: ignore[import-untyped]

from dgrec.errors import VideoError
from dgrec.processes import module_command
from dgrec.recorder.video.codecs import Codec
from dgrec.units import counted
from dgrec.video import MICROSECOND, import_av

_PROGRAM = "dgrec.recorder.video.encoder_program"
#: It has stopped if it used none of the processor's time in so many looks, one after the other.
#: Where others are busy, it gets a little of it between any two.
_LOOKS = 5
_LOOK_S = 1.0
#: How often a picture is tried.
_ATTEMPTS = 3


class _StoppedError(Exception):
    """The process does nothing any more."""


class _Picture(NamedTuple):
    """What the process is sent; it answers with packets, as tuples."""

    pts_us: int
    is_key: bool
    pixels: np.ndarray[Any, np.dtype[np.uint8]]


class EncoderProcess:
    """Encodes pictures in another process. Where that stops or ends, a new one goes on.

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
                    pipe = self._ready()
                    pipe.send(message)
                    self._take(self._answer(pipe), packets)
                return packets
            except (_StoppedError, EOFError, OSError):
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
        self._pipe, other = multiprocessing.Pipe()
        with other:
            try:
                self._process = subprocess.Popen(
                    module_command(_PROGRAM, str(other.fileno())),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(other.fileno(),),
                    start_new_session=True,  # Ctrl-C is for the recording, which goes on to its end
                )
            except OSError as error:
                raise VideoError(f"its process cannot be started: {error.strerror}") from None
        self._pipe.send(self._settings)
        return self._pipe

    def _answer(self, pipe: Connection) -> Any:
        assert self._process is not None
        used_s, looks = -1.0, 0
        while not pipe.poll(_LOOK_S):
            before_s, used_s = used_s, _processor_time(self._process.pid)
            looks = looks + 1 if used_s == before_s else 0
            if looks == _LOOKS:
                raise _StoppedError
        return pipe.recv()

    def _take(self, answer: Any, packets: list[Any]) -> None:
        if isinstance(answer, str):
            raise VideoError(answer)
        for data, pts, dts, duration, is_key in answer:
            packet = import_av().Packet(data)
            packet.pts, packet.dts, packet.time_base = pts, dts, MICROSECOND
            packet.duration, packet.is_keyframe = duration, is_key
            packets.append(packet)
            self._waiting = [picture for picture in self._waiting if picture.pts_us != pts]


def _processor_time(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0
