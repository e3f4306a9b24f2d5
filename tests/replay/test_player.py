"""`dgrec replay` in a window: a real one, on a virtual display."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from PIL import ImageGrab

import dgrec
from dgrec.display import has_display
from replay import player as player_module
from replay.pixels import Footage, Pixels
from replay.player import Player
from replay.render import Canvas, Frame, OverlayPainter, frames
from tests.factory import write_session
from tests.replay.clips import (
    HEIGHT,
    WIDTH,
    file_source,
    number_drawn,
    number_in,
    numbered_metadata,
    numbered_row,
    write_clip,
)

FRAMES = 300
ROOT = str(Path(__file__).parents[2])
RUN = "from tests.replay.test_player import main; main()"


def main() -> None:
    """Run the command as the console script does (in a process of its own)."""
    from dgrec.cli import RootGroup
    from replay.replay_cli import replay_command

    RootGroup(name="dgrec", commands=[replay_command]).main()


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """Give the name of a virtual display."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "800x600x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as pipe:
        number = pipe.readline().strip()
    assert number, "Xvfb did not start"
    yield f":{number}"
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("player")
    clip = write_clip(folder / "numbered.mp4", FRAMES)
    rows = [numbered_row(i, i) for i in range(FRAMES)]
    return write_session(folder / "s.parquet", rows, numbered_metadata(file_source(clip)))


#: What X answered to requests that came too early or too late. Xlib would end this process.
X_ERRORS: list[int] = []


def note_x_error(_connection: int, _error: int) -> int:
    X_ERRORS.append(1)
    return 0


NOTE_X_ERROR = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(note_x_error)


class Replay:
    """A `dgrec replay` in another process, and a user in front of its window."""

    def __init__(self, display: str, *arguments: Any) -> None:
        self.display = display
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, "replay", *map(str, arguments)],
            env={**os.environ, "DISPLAY": display, "PYTHONPATH": ROOT},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._x11 = ctypes.CDLL("libX11.so.6")
        self._x11.XSetErrorHandler(NOTE_X_ERROR)
        self._x11.XOpenDisplay.restype = ctypes.c_void_p
        self._connection = ctypes.c_void_p(self._x11.XOpenDisplay(display.encode()))

    def window(self) -> int:
        """Return the window's id, once it is there and shows a frame."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.communicate()
            found = self._windows(self._x11.XDefaultRootWindow(self._connection))
            if found and self.screen()[:HEIGHT, :WIDTH].max() == 255:
                return found[0]
            time.sleep(0.02)
        raise AssertionError("no window")

    def _windows(self, parent: int) -> list[int]:
        """Return the windows named ``dgrec: ...`` below ``parent``."""
        root, up, count = ctypes.c_ulong(), ctypes.c_ulong(), ctypes.c_uint()
        children = ctypes.POINTER(ctypes.c_ulong)()
        self._x11.XQueryTree(
            self._connection,
            ctypes.c_ulong(parent),
            ctypes.byref(root),
            ctypes.byref(up),
            ctypes.byref(children),
            ctypes.byref(count),
        )
        return [int(w) for w in children[: count.value] if self._name(w).startswith(b"dgrec: ")]

    def _name(self, window: int) -> bytes:
        kind, form, items, left = (ctypes.c_ulong() for _ in range(4))
        value = ctypes.c_char_p()
        self._x11.XGetWindowProperty(
            self._connection,
            ctypes.c_ulong(window),
            ctypes.c_ulong(self._atom("_NET_WM_NAME")),
            ctypes.c_long(0),
            ctypes.c_long(64),
            0,
            ctypes.c_ulong(0),  # of any type
            *map(ctypes.byref, (kind, form, items, left, value)),
        )
        return value.value or b""

    def _atom(self, name: str) -> int:
        self._x11.XInternAtom.restype = ctypes.c_ulong
        atom: int = self._x11.XInternAtom(self._connection, name.encode(), 0)
        return atom

    def screen(self) -> Any:
        """Return what the display shows, BGR."""
        return np.asarray(ImageGrab.grab(xdisplay=self.display).convert("RGB"))[:, :, ::-1]

    def press(self, key: str) -> None:
        x11, symbol = self._x11, self._x11.XStringToKeysym(key.encode())
        code = x11.XKeysymToKeycode(self._connection, ctypes.c_ulong(symbol))
        test = ctypes.CDLL("libXtst.so.6")
        window = ctypes.c_ulong(self.window())
        # There is no window manager that would give the window the keyboard.
        while True:
            X_ERRORS.clear()
            x11.XSetInputFocus(self._connection, window, 1, ctypes.c_ulong(0))
            x11.XSync(self._connection, 0)
            if not X_ERRORS:
                break
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)  # it is not on the screen yet
        for down in (1, 0):
            test.XTestFakeKeyEvent(self._connection, code, down, ctypes.c_ulong(0))
        x11.XSync(self._connection, 0)

    def close_window(self) -> None:
        """Do what a window manager does when the cross is clicked."""
        window = self.window()

        class ClientMessage(ctypes.Structure):
            _fields_ = [
                ("type", ctypes.c_int),
                ("serial", ctypes.c_ulong),
                ("send_event", ctypes.c_int),
                ("display", ctypes.c_void_p),
                ("window", ctypes.c_ulong),
                ("message_type", ctypes.c_ulong),
                ("format", ctypes.c_int),
                ("data", ctypes.c_long * 5),
                ("rest", ctypes.c_long * 24),
            ]

        protocols, delete = self._atom("WM_PROTOCOLS"), self._atom("WM_DELETE_WINDOW")
        message = ClientMessage(
            33, 0, 1, self._connection, window, protocols, 32, (ctypes.c_long * 5)(delete)
        )
        self._x11.XSendEvent(
            self._connection, ctypes.c_ulong(window), 0, ctypes.c_long(0), ctypes.byref(message)
        )
        self._x11.XSync(self._connection, 0)

    def end(self) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._x11.XCloseDisplay(self._connection)
        self.process.kill()
        self.process.communicate()


def test_it_shows_the_frames_at_the_recorded_pace(display: str, session: Path) -> None:
    with Replay(display, session, "--end", "90") as run:
        run.window()
        started = time.monotonic()
        code, out, err = run.end()
        taken = time.monotonic() - started
    assert code == 0
    shown = int(out.split()[0])
    # A machine that is busy with other things may miss some, and must say so.
    assert shown > 10
    assert (
        err == "" if shown == 90 else err.startswith(f"{90 - shown} of 90 frames were passed over")
    )
    assert taken > 90 / 30 - 1, "frames must not fly past"


@pytest.mark.parametrize("key", ["q", "Escape"])
def test_a_paused_window_shows_the_frame_as_it_was_drawn(
    display: str, session: Path, key: str
) -> None:
    with Replay(display, session) as run:
        run.press("space")
        time.sleep(0.3)
        picture = run.screen()[:HEIGHT, :WIDTH]
        time.sleep(0.5)
        assert np.array_equal(run.screen()[:HEIGHT, :WIDTH], picture), "it must stand still"
        number = number_in(picture)
        run.press("space")
        time.sleep(0.5)
        assert number_in(run.screen()[:HEIGHT, :WIDTH]) > number
        run.press(key)
        code, out, err = run.end()
    assert (code, err) == (0, "")
    assert number_drawn(picture) == number
    with dgrec.open(session) as opened, Pixels(Footage(session.with_name("numbered.mp4"))) as px:
        result = opened.result(number)
        image = px.frame(result.row)
    assert image is not None
    assert np.array_equal(result.overlay(image), picture)
    shown = int(out.split()[0])
    assert number + 1 < shown < FRAMES


def test_closing_the_window_ends_it(display: str, session: Path) -> None:
    with Replay(display, session) as run:
        run.close_window()
        code, out, err = run.end()
    assert (code, err) == (0, "")
    assert int(out.split()[0]) < FRAMES


def test_with_an_output_no_window_opens(display: str, session: Path, tmp_path: Path) -> None:
    with Replay(display, session, "--output", tmp_path / "a.mp4", "--end", "5") as run:
        code, out, _ = run.end()
    assert code == 0
    assert out == f"{tmp_path / 'a.mp4'}: 5 frames, 0.2 s\n"


def test_a_window_opens_after_a_video_was_written(display: str, tmp_path: Path) -> None:
    """PyAV loaded before OpenCV makes the first window hang, at full CPU and beyond Ctrl-C."""
    code = (
        "import sys; import numpy as np; from pathlib import Path;"
        "from replay.player import Window; from dgrec.video import VideoWriter;"
        "image = np.zeros((64, 64, 3), np.uint8); writer = VideoWriter(Path(sys.argv[1]), 64, 64);"
        "writer.write(image, 0); writer.finish(); window = Window('a', 64, 64); window.show(image);"
        "window.wait(0.1); window.close(); print('closed')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.mp4")],
        env={**os.environ, "DISPLAY": display, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (run.stdout, run.stderr) == ("closed\n", "")


def test_displays(display: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", display)
    assert has_display()
    monkeypatch.setenv("DISPLAY", ":9876")  # set, and gone
    assert not has_display()
    monkeypatch.delenv("DISPLAY")
    assert not has_display()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-9876")
    assert not has_display()


def test_a_display_that_is_gone_gives_a_file(session: Path, tmp_path: Path) -> None:
    copy = tmp_path / "s.parquet"
    shutil.copy(session, copy)
    run = subprocess.run(
        [sys.executable, "-c", RUN, "replay", str(copy), "--end", "3"],
        env={**os.environ, "DISPLAY": ":9876", "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
    )
    output = tmp_path / "s.replay.mp4"
    assert run.stderr == f"display :9876 cannot be opened: writing {output} instead\n"
    assert run.stdout == f"{output}: 3 frames, 0.1 s\n"
    assert output.exists()


# --- pace and pauses, by a clock of our own ---


class FakeTime:
    """A clock that stands in for `time`, and for the window: waiting makes it go on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pictures: list[tuple[float, Any]] = []
        self.keys: dict[float, int] = {}
        self.closed = False
        self.close_at = float("inf")

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> int | None:
        self.now += max(seconds, 0.001)
        self.closed = self.now >= self.close_at
        for at in sorted(self.keys):
            if at <= self.now:
                return self.keys.pop(at)
        return None

    def show(self, image: Any) -> None:
        self.pictures.append((round(self.now - 100, 2), number_in(image)))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(player_module, "time", fake)
    return fake


class SlowPainter(OverlayPainter):
    """A painter that takes its time on the fake clock."""

    def __init__(self, clock: FakeTime, seconds: float) -> None:
        super().__init__()
        self._clock, self._seconds = clock, seconds

    def draw(self, result: Any, image: Any) -> Any:
        self._clock.now += self._seconds
        return image


def play(clock: FakeTime, session: Path, count: int = 30, seconds: float = 0.0) -> Player:
    window: Any = clock
    player = Player(window, SlowPainter(clock, seconds), Canvas(WIDTH, HEIGHT))
    with dgrec.open(session) as opened, Pixels(Footage(session.with_name("numbered.mp4"))) as px:
        recorded: Iterator[Frame] = frames(opened, px, 0, count)
        player.play(recorded)
    return player


def test_pace(clock: FakeTime, session: Path) -> None:
    player = play(clock, session)
    assert (player.shown, player.passed_over, player.notes()) == (30, 0, [])
    for i, (at, number) in enumerate(clock.pictures):
        assert number == i
        assert at == pytest.approx(i * 1001 / 30000, abs=0.012)


def test_a_pause_stops_the_clock(clock: FakeTime, session: Path) -> None:
    clock.keys = {100.5: ord(" "), 107.5: ord(" ")}
    player = play(clock, session)
    assert (player.shown, player.passed_over) == (30, 0)
    times = [at for at, _ in clock.pictures]
    gaps = np.diff(times)
    assert gaps.max() == pytest.approx(7, abs=0.1)
    assert times[-1] == pytest.approx(29 * 1001 / 30000 + 7, abs=0.1)
    assert sorted(gaps)[-2] < 0.06, "after the pause it goes on at its pace"


@pytest.mark.parametrize("key", [ord("q"), 27])
def test_keys_end_it_even_in_a_pause(clock: FakeTime, session: Path, key: int) -> None:
    clock.keys = {100.2: ord(" "), 101.0: key}
    assert play(clock, session).shown < 10


def test_closing_ends_it_even_in_a_pause(clock: FakeTime, session: Path) -> None:
    clock.keys = {100.2: ord(" ")}
    clock.close_at = 101.0
    assert play(clock, session).shown < 10


def test_slow_drawing_passes_over_frames(clock: FakeTime, session: Path) -> None:
    player = play(clock, session, FRAMES, seconds=0.1)
    assert player.shown + player.passed_over == FRAMES
    assert player.passed_over > 60
    assert clock.pictures[-1][0] == pytest.approx(FRAMES / 30, abs=0.4), "in step with the clock"
    gaps = np.diff([at for at, _ in clock.pictures])
    assert gaps.max() < 0.7
    (note,) = player.notes()
    assert note.startswith(f"{player.passed_over} of {FRAMES} frames were passed over")
