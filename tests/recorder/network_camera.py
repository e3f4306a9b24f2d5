"""A network camera on loopback: MJPEG over HTTP, in a process of its own so that it can be killed.

    python -m tests.recorder.network_camera PORT FPS FIRST_FRAME

Each picture carries its frame number as a row of black and white blocks, which survives JPEG and
H.264: `frame_number` reads it back.
"""

from __future__ import annotations

import http.server
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

_BITS = 16
_BLOCK = 16
_BOUNDARY = "frame"


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

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.end_headers()
        due = time.monotonic()
        try:
            while True:
                _, data = cv2.imencode(".jpg", picture(_Handler.number))
                _Handler.number += 1
                self.wfile.write(
                    f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n"
                    f"Content-Length: {len(data)}\r\n\r\n".encode()
                    + data.tobytes()
                    + b"\r\n"
                )
                due += 1 / self.fps
                time.sleep(max(0.0, due - time.monotonic()))
        except OSError:
            pass  # the viewer has left

    def log_message(self, *args: object) -> None:
        pass


def main(port: int, fps: float, first: int) -> None:
    _Handler.fps, _Handler.number = fps, first
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), _Handler) as server:
        print("ready", flush=True)
        server.serve_forever()


class MjpegCamera:
    """Starts, kills and starts again a camera at one address."""

    def __init__(self, port: int, fps: float = 25.0) -> None:
        self.port = port
        self.fps = fps
        self.url = f"http://127.0.0.1:{port}/video.mjpg"
        self._process: subprocess.Popen[str] | None = None

    def start(self, first_frame: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self.port), str(self.fps), str(first_frame)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
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


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
