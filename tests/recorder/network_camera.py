"""Network cameras on loopback, in processes of their own so that they can be killed and stopped.

    python -m tests.recorder.network_camera PORT FPS FIRST_FRAME

is one that sends JPEG over HTTP; `rtsp_camera.py` beside this file is the other. Each picture
carries its frame number as a row of black and white blocks, which survives JPEG and H.264:
`frame_number` reads it back.
"""

from __future__ import annotations

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from tests.waiting import PATIENCE_S

_BITS = 16
_BLOCK = 16
_BOUNDARY = "frame"
_HERE = Path(__file__).parent
_DEBIAN_PYTHON = "/usr/bin/python3"
_NEEDS = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); "
    "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
    "missing = [n for n in ('appsrc', 'videoconvert', 'x264enc', 'rtph264pay') "
    "if Gst.ElementFactory.find(n) is None]; "
    "raise SystemExit(f'GStreamer has no {missing}' if missing else 0)"
)

#: What the camera sends on each path.
SLOW_FPS = 2.0
GROWS_AT = 30


def picture(number: int, size: tuple[int, int] = (320, 240)) -> np.ndarray[Any, Any]:
    """Return a BGR picture, uint8, that carries ``number`` (below 65,536) in its top rows."""
    width, height = size
    image = np.full((height, width, 3), 90, np.uint8)
    for bit in range(_BITS):
        value = 255 if number >> bit & 1 else 0
        image[:_BLOCK, bit * _BLOCK : (bit + 1) * _BLOCK] = value
    return image


def frame_number(image: np.ndarray[Any, Any]) -> int:
    """Return the number that `picture` wrote into ``image``."""
    middle = image[_BLOCK // 2, _BLOCK // 2 : _BITS * _BLOCK : _BLOCK].mean(axis=1)
    return sum(1 << bit for bit in range(_BITS) if middle[bit] > 127)


class _Handler(http.server.BaseHTTPRequestHandler):
    fps = 25.0
    number = 0
    slow = False
    lock = threading.Lock()
    viewer: object = None

    def do_GET(self) -> None:
        kind, _, rest = self.path.split("?")[0].strip("/").partition("/")
        try:
            if kind == "status":
                self.send_error(int(rest))
            elif kind == "garbage":
                self._send_garbage()
            else:
                self._send_pictures(kind)
        except OSError:
            pass  # the viewer has left

    def _send_garbage(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.end_headers()
        noise = np.random.default_rng(7).integers(0, 256, 1 << 16, dtype=np.uint8).tobytes()
        for _ in range(64):
            self.wfile.write(noise)

    def _send_pictures(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.end_headers()
        due = time.monotonic()
        with self.lock:
            _Handler.viewer = self
        while True:
            with self.lock:
                if _Handler.viewer is not self:
                    return  # a viewer who has left must not use up numbers of the next
                number = _Handler.number
                _Handler.number += 1
            size = (640, 480) if kind == "grows" and number >= GROWS_AT else (320, 240)
            _, data = cv2.imencode(".jpg", picture(number, size))
            data = data.tobytes()
            if (kind == "halves" and number % 5 == 4) or (kind == "spoils" and number >= GROWS_AT):
                data = data[: len(data) // 2]
            self.wfile.write(
                f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n"
                f"Content-Length: {len(data)}\r\n\r\n".encode()
                + data
                + b"\r\n"
            )
            # What was due while the process was stopped is not made up for.
            due = max(due, time.monotonic() - 1) + 1 / (SLOW_FPS if self.slow else self.fps)
            time.sleep(max(0.0, due - time.monotonic()))

    def log_message(self, *args: object) -> None:
        pass


def _toggle_slow(number: int, frame: object) -> None:
    _Handler.slow = not _Handler.slow


def main(port: int, fps: float, first: int) -> None:
    _Handler.fps, _Handler.number = fps, first
    signal.signal(signal.SIGUSR1, _toggle_slow)
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), _Handler) as server:
        print("ready", flush=True)
        server.serve_forever()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class MjpegCamera:
    """Starts, kills and starts again a camera at one address.

    SIGUSR1 makes it slow, and fast again.
    """

    scheme = "http"
    path = "video.mjpg"
    program = (sys.executable, "-m", "tests.recorder.network_camera")

    def __init__(self, fps: float = 25.0, *, port: int | None = None) -> None:
        self.port = port or free_port()
        self.fps = fps
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return self.url_of(self.path)

    def url_of(self, path: str, login: str = "") -> str:
        return f"{self.scheme}://{login}127.0.0.1:{self.port}/{path}"

    def start(self, first_frame: int = 0) -> None:
        self._process = subprocess.Popen(
            [*self.program, str(self.port), str(self.fps), str(first_frame)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=_HERE.parents[1],
            env={**os.environ, "PYTHONPATH": ""},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


class RtspCamera(MjpegCamera):
    """The same over RTSP, in H.264. SIGUSR1 makes it lose five frames."""

    scheme = "rtsp"
    path = "cam"
    program = (_DEBIAN_PYTHON, str(_HERE / "rtsp_camera.py"))

    @staticmethod
    def missing() -> str | None:
        """Return what is missing on this machine to run it, or None."""
        if not Path(_DEBIAN_PYTHON).exists():
            return f"no {_DEBIAN_PYTHON}"
        tried = subprocess.run(
            [_DEBIAN_PYTHON, "-c", _NEEDS],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        lines = tried.stderr.strip().splitlines()
        return f"GStreamer's RTSP server: {lines[-1]}" if tried.returncode else None


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
