"""Time and memory until a recording's first picture is seen: `dgrec view` and Rerun.

    python -m bench.view_rerun [--folder FOLDER] [--hours 1]

Makes a session of HOURS at 30 frames a second, with 10 detections each and a video, as
`bench.view_page` does, and exports it for Rerun (`dgrec export`). Each is opened from its command
on, in turns: `dgrec view` in a Chromium that runs already, Rerun's own viewer without a window
(``--headless``, for which it needs a Vulkan driver: Debian's mesa-vulkan-drivers do). Both draw
without a graphics card. A picture is seen once a screenshot has it. Memory is that of all processes
of the viewer, at most; with dgrec, of the server and of the page's process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.view_page import _renderer_mb, _Server, make
from tests.browser import Browser
from tests.recorder.network_camera import free_port

_TIMEOUT_S = 300
#: How many colours show that the picture is there.
_COLOURS = 300
_Measured = tuple[float, float]


def open_page(folder: Path, name: str) -> _Measured:
    """Return the seconds until the first picture, and megabytes."""
    with (
        tempfile.TemporaryDirectory() as profile,
        Browser(Path(profile) / "browser", width=1400) as browser,
    ):
        began = time.monotonic()
        server = _Server(folder)
        try:
            browser.call("Page.navigate", url=f"{server.url}#s={name}&f=10")
            browser.wait_for("!!document.querySelector('.stage')?.dataset.position", _TIMEOUT_S)
            seconds = time.monotonic() - began
            time.sleep(3)  # it goes on loading
            return seconds, server.peak_mb() + _renderer_mb(browser)[0]
        finally:
            server.close()


def open_rerun(file: Path, folder: Path) -> _Measured:
    from rerun.experimental import ViewerClient
    from rerun_cli import __main__ as cli

    port = free_port()
    binary = Path(cli.__file__).with_name("rerun")
    command = [str(binary), str(file), "--headless", "--port", str(port), "--memory-limit", "none"]
    environment = {**os.environ, "RERUN_ANALYTICS": "0", "XDG_RUNTIME_DIR": str(folder)}
    shot = folder / "shot.png"
    shot.unlink(missing_ok=True)
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        client: Any = None
        while time.monotonic() - began < _TIMEOUT_S:
            with contextlib.suppress(Exception):  # it does not listen yet
                client = client or ViewerClient(f"rerun+http://127.0.0.1:{port}/proxy")
                client.save_screenshot(str(shot))
            if shot.exists() and _is_seen(shot):
                seconds = time.monotonic() - began
                time.sleep(3)  # it goes on loading
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
                return seconds, int(status.split("VmHWM:")[1].split()[0]) / 1000
            shot.unlink(missing_ok=True)
        raise SystemExit("Rerun's viewer showed no picture")
    finally:
        process.terminate()
        process.wait()


def _is_seen(path: Path) -> bool:
    image = cv2.imread(str(path))
    if image is None:  # it is being written
        return False
    # The view of the video is the last; its noise has hundreds of colours, everything else a few.
    height, width = image.shape[:2]
    view = image[height // 2 : height * 3 // 4, width * 6 // 10 : width * 8 // 10]
    return len(np.unique(view.reshape(-1, 3) // 16, axis=0)) > _COLOURS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the sessions here")
    parser.add_argument("--hours", type=float, default=1)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "long").mkdir(parents=True, exist_ok=True)
        session = make(folder / "long", "long", round(options.hours * 3600 * 30))
        exported = folder / "long.rrd"
        command = [sys.executable, "-m", "dgrec", "export", session, "-o", exported, "--overwrite"]
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        took = time.monotonic() - began
        sizes = [path.stat().st_size / 1e6 for path in (session, session.with_suffix(".mp4"))]
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ways: dict[str, Callable[[], _Measured]] = {
            "dgrec view": lambda: open_page(folder / "long", "long"),
            "Rerun": lambda: open_rerun(exported, scratch),
        }
        found: dict[str, list[_Measured]] = {way: [] for way in ways}
        for _ in range(options.runs):
            for way, measure in ways.items():
                found[way].append(measure())
        print("| | files | first picture | memory |\n|---|---|--:|--:|")
        files = {
            "dgrec view": f"{sizes[0]:,.0f} MB and {sizes[1]:,.0f} MB of video",
            "Rerun": f"{exported.stat().st_size / 1e6:,.0f} MB, written in {took:.1f} s",
        }
        for way, runs in found.items():
            seconds, memory = (statistics.median(values) for values in zip(*runs, strict=True))
            print(f"| {way} | {files[way]} | {seconds:.2f} s | {memory:,.0f} MB |")


if __name__ == "__main__":
    main()
