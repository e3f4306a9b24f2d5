"""The socket between `dgrec run --view` and a program: neither waits for the other for ever."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dgrec.recorder import frame_socket
from dgrec.recorder.frame_socket import FrameSocket, offer_frames
from dgrec.recorder.outputs import NewestFrame, Shown
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_socket, "_PATIENCE_S", 0.1)


def ends(work: Callable[[], object], otherwise: Callable[[], object]) -> None:
    """Wait until work is done, in another thread."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        wait_until(lambda: not thread.is_alive())
    finally:
        otherwise()
        thread.join(60)


def test_a_page_that_is_stopped_does_not_hold_up_the_program(tmp_path: Path) -> None:
    address = str(tmp_path / "view")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        frames = NewestFrame(tmp_path / "s.parquet")
        offer_frames(frames, address)
        page, _ = listener.accept()  # which reads nothing
        with page:
            reading = [each for each in threading.enumerate() if each.name == "dgrec-view"]
            picture = Shown(0, 0, bytes(8 << 20), "")
            ends(lambda: frames.shown(frames, picture), page.close)
        for thread in reading:
            thread.join(60)


def test_a_program_that_is_stopped_does_not_hold_up_the_page() -> None:
    page = FrameSocket(lambda *_: None)
    try:
        with socket.socket(socket.AF_UNIX) as program:
            program.connect(page.address)
            program.sendall(json.dumps({"place": "s"}).encode() + b"\n")
            wait_until(lambda: page.ask("frame", "s"))

            def ask() -> None:
                while page.ask("frame", "s"):
                    pass

            ends(ask, program.close)
            assert not page.ask("frame", "s")
    finally:
        page.close()
