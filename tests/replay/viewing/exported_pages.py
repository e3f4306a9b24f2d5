"""Static hosts and screenshots, for the tests of pages that need no server of dgrec."""

from __future__ import annotations

import base64
import re
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np

# isort: off
import cv2

# isort: on

from tests.browser import Browser
from tests.replay.clips import HEIGHT, WIDTH

__all__ = ["RangeHandler", "go_to", "open_url", "shown_picture"]


class RangeHandler(SimpleHTTPRequestHandler):
    """Serves the files of a folder, and parts of them, as most static hosts do."""

    protocol_version = "HTTP/1.1"
    folder = Path()
    has_ranges = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, directory=str(self.folder))

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file() or not self.has_ranges:
            super().do_GET()
            return
        data = path.read_bytes()
        start = int(wanted[1])
        end = min(int(wanted[2] or len(data) - 1), len(data) - 1)
        self.send_response(206)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end + 1 - start))
        self.end_headers()
        self.wfile.write(data[start : end + 1])

    def log_message(self, format: str, *args: Any) -> None:
        pass


def go_to(browser: Browser, session: str, frame: int, title: str = "") -> None:
    """Follow a link to a frame, and wait until it is shown."""
    browser.run(f"location.hash = '#s={session}&f={frame}'")
    browser.wait_for(
        f"document.querySelector('.stage')?.dataset.frame === '{frame}' && "
        "!document.querySelector('#player').hasAttribute('aria-busy') && "
        f"document.querySelector('#session-name').textContent === '{title or session}'"
    )
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def shown_picture(browser: Browser) -> np.ndarray[Any, Any]:
    """Return what the page shows of a numbered picture, with its overlay, in its size."""
    box = browser.run(
        "(() => { const b = document.querySelector('.stage canvas.picture')"
        ".getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()"
    )
    clip = dict(zip(("x", "y", "width", "height"), box, strict=True))
    data = browser.call("Page.captureScreenshot", format="png", clip={**clip, "scale": 1})["data"]
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def open_url(browser: Browser, url: str) -> None:
    browser.call("Page.navigate", url=url)
    browser.wait_for(f"document.readyState === 'complete' && location.href.startsWith({url!r})")
