"""A real headless Chromium, driven over its own DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.waiting import PATIENCE_S

__all__ = ["Browser", "needs_chromium"]

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(_CHROMIUM is None, reason="chromium is not installed")


class Browser:
    """One page of a browser; it ends with the ``with`` block."""

    def __init__(self, folder: Path, *, width: int = 1100, height: int = 900) -> None:
        assert _CHROMIUM is not None
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [
                _CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--autoplay-policy=no-user-gesture-required",
                "--mute-audio",
                "--remote-debugging-port=0",
                "--remote-allow-origins=*",
                f"--user-data-dir={folder / 'profile'}",
                f"--window-size={width},{height}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._next_id = 0
        #: What the page said on its console, and errors of its scripts.
        self.console: list[str] = []
        #: Addresses that were asked for.
        self.requests: list[str] = []
        try:
            self._socket = self._connect()
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def _connect(self, kind: str = "page") -> Any:
        import urllib.request

        from websocket import create_connection

        port_file = self.folder / "profile" / "DevToolsActivePort"
        deadline = time.monotonic() + PATIENCE_S
        while not (port_file.exists() and len(port_file.read_text().splitlines()) > 1):
            assert self._process.poll() is None, "chromium ended at once"
            assert time.monotonic() < deadline, "chromium does not answer"
            time.sleep(0.05)
        port = port_file.read_text().splitlines()[0]
        while True:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/json", timeout=PATIENCE_S
            ) as answer:
                pages = [page for page in json.load(answer) if page["type"] == kind]
            if pages:
                return create_connection(pages[0]["webSocketDebuggerUrl"], timeout=PATIENCE_S)
            assert time.monotonic() < deadline, f"chromium opens no {kind}"
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The browser's process, which leads the group of all its processes."""
        return self._process.pid

    @contextlib.contextmanager
    def inside_frame(self) -> Iterator[None]:
        """Drive the frame inside the page instead, which is of another origin."""
        outer, self._socket = self._socket, self._connect("iframe")
        try:
            for domain in ("Runtime", "Network", "Log"):
                self.call(f"{domain}.enable")
            yield
        finally:
            self._socket.close()
            self._socket = outer

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._next_id += 1
        self._socket.send(json.dumps({"id": self._next_id, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._next_id:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Runtime.consoleAPICalled":
            values = [str(a.get("value", a.get("description"))) for a in parameters["args"]]
            self.console.append(" ".join(values))
        elif method == "Runtime.exceptionThrown":
            self.console.append(str(parameters["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.console.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

    def open(self, path: Path) -> None:
        """Open a file, and wait until it has been read."""
        self.call("Page.navigate", url=path.absolute().as_uri())
        self.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, script: str) -> Any:
        """Return what an expression gives; a promise is waited for."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.run(condition):
            assert time.monotonic() < deadline, f"still not: {condition}; {self.console}"
            time.sleep(0.05)

    def move_mouse(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, path: Path) -> None:
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._socket.close()
        with contextlib.suppress(ProcessLookupError):
            # Its helpers are in the group that it was started in.
            os.killpg(self._process.pid, 15)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
