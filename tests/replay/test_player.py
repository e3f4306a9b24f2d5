"""`dgrec replay` in a window: a real one, on a virtual display."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
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
from dgrec.footage import Footage, Pixels
from dgrec.replay.player import player as player_module
from dgrec.replay.player.marks import Marks, find_marks
from dgrec.replay.player.played_frames import PlayedFrames, played_frames
from dgrec.replay.player.player import Player
from dgrec.replay.player.playhead import Playhead
from dgrec.replay.player.time_bar import TimeBar
from dgrec.replay.rendering import Canvas
from dgrec.screen import has_display
from tests.factory import make_detection, write_session
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
from tests.waiting import PATIENCE_S, wait_until

FRAMES = 300
ROOT = str(Path(__file__).parents[2])
RUN = "from tests.replay.test_player import main; main()"


def main() -> None:
    """Run the command as the console script does (in a process of its own)."""
    from dgrec.cli import RootGroup
    from dgrec.replay.commands.replay import replay_command

    RootGroup(name="dgrec", commands=[replay_command]).main()


def main_noting(notes: str) -> None:
    """Do so, and note each picture that the window shows: its number, and when it was shown."""
    from dgrec.replay.player.window import Window

    show = Window.show
    with Path(notes).open("w") as file:

        def note(self: Window, image: Any) -> None:
            show(self, image)
            file.write(f"{number_in(image)} {time.monotonic()}\n")

        Window.show = note  # type: ignore[method-assign]
        main()


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """Give the name of a virtual display."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed")
    reading, writing = os.pipe()
    # Without -noreset it starts anew when its last client has gone, and refuses the next meanwhile.
    options = "-noreset -screen 0 800x600x24 -nolisten tcp".split()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), *options],
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


@pytest.fixture(scope="module")
def eventful_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session in which frames 60, 150 and 200 stand out."""
    folder = tmp_path_factory.mktemp("eventful")
    clip = write_clip(folder / "numbered.mp4", FRAMES)
    rows = []
    for i in range(FRAMES):
        row = numbered_row(i, i, media_time_s=i * 0.04)
        row.completed_ns = row.captured_ns + 10_000_000
        if i == 150:
            row.completed_ns += 50_000_000
        if i == 60:
            row.dropped_camera = 3
        if i == 200:
            row.results = [*row.results, make_detection(label="cat", bbox=[1.0, 1.0, 2.0, 2.0])]
        rows.append(row)
    return write_session(folder / "e.parquet", rows, numbered_metadata(file_source(clip)))


def frames_of(path: Path) -> PlayedFrames:
    with dgrec.open(path) as opened:
        return played_frames(opened)


#: What X answered to requests that came too early or too late. Xlib would end this process.
X_ERRORS: list[int] = []


def note_x_error(_connection: int, _error: int) -> int:
    X_ERRORS.append(1)
    return 0


NOTE_X_ERROR = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(note_x_error)


class Replay:
    """A `dgrec replay` in another process, and a user in front of its window."""

    def __init__(self, display: str, *arguments: Any, run: str = RUN) -> None:
        self.display = display
        self._x11 = ctypes.CDLL("libX11.so.6")
        self._x11.XSetErrorHandler(NOTE_X_ERROR)
        self._x11.XOpenDisplay.restype = ctypes.c_void_p
        self._connection = ctypes.c_void_p(self._x11.XOpenDisplay(display.encode()))
        assert self._connection, f"{display} cannot be opened"
        self.process = subprocess.Popen(
            [sys.executable, "-c", run, "replay", *map(str, arguments)],
            env={**os.environ, "DISPLAY": display, "PYTHONPATH": ROOT},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def window(self) -> int:
        """Return the window's id, once it is there and shows a frame."""
        found: list[int] = []

        def is_shown() -> bool:
            found[:] = self._windows(self._x11.XDefaultRootWindow(self._connection))
            return bool(found) and self.screen()[:HEIGHT, :WIDTH].max() > 240

        wait_until(is_shown, process=self.process)
        return found[0]

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

    def click(self, x: int, y: int) -> None:
        """Click on a pixel of the screen."""
        x11, test = self._x11, ctypes.CDLL("libXtst.so.6")
        test.XTestFakeMotionEvent(self._connection, -1, x, y, ctypes.c_ulong(0))
        for down in (1, 0):
            test.XTestFakeButtonEvent(self._connection, 1, down, ctypes.c_ulong(0))
            x11.XSync(self._connection, 0)
            time.sleep(0.05)

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
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err

    def frames(self) -> tuple[int, int]:
        """Wait for a good end; return how many frames were shown, and how many passed over.

        A machine that is busy with other things may miss some, and must say so.
        """
        code, out, err = self.end()
        shown = int(out.split()[0])
        note = re.fullmatch(r"(\d+) of (\d+) frames were passed over to keep pace .*\n", err)
        passed_over = int(note[1]) if note else 0
        assert (code, "" if note else err) == (0, "")
        assert note is None or int(note[2]) == shown + passed_over
        return shown, passed_over

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._x11.XCloseDisplay(self._connection)
        self.process.kill()
        self.process.communicate()


def number_shown(run: Replay) -> int:
    """Return the number of the frame on the screen; -1 while one is being painted over another."""
    try:
        return number_in(run.screen()[:HEIGHT, :WIDTH])
    except AssertionError:
        return -1


def paused(run: Replay) -> Any:
    """Pause a replay that runs; return the picture that stays."""
    wait_until(lambda: number_shown(run) > 0, process=run.process)
    run.press("space")
    screens = [run.screen()]

    def is_paused() -> bool:
        screens.append(run.screen())
        stroke = screens[-1][HEIGHT + 28 : HEIGHT + 39, 16:19]  # the second of the sign "paused"
        return bool((stroke > 200).all()) and np.array_equal(screens[-1], screens[-2])

    wait_until(is_paused, process=run.process)
    return screens[-1][:HEIGHT, :WIDTH]


def press_and_see(run: Replay, key: str) -> None:
    """Press a key that changes the picture, and wait until it has."""
    before = run.screen()
    run.press(key)
    wait_until(lambda: not np.array_equal(run.screen(), before), process=run.process)


@pytest.mark.slow
def test_it_shows_the_frames_at_the_recorded_pace(
    display: str, session: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.txt"
    noting = f"from tests.replay.test_player import main_noting; main_noting({str(notes)!r})"
    with Replay(display, session, "--end", "90", run=noting) as run:
        shown, passed_over = run.frames()
    ended = time.monotonic()
    assert shown > 10
    assert shown + passed_over == 90
    lines = notes.read_text().splitlines()
    pictures = [(int(number), float(at)) for number, at in map(str.split, lines)]
    numbers = [number for number, _ in itertools.groupby(number for number, _ in pictures)]
    assert numbers == sorted(set(numbers))
    assert (len(numbers), numbers[0]) == (shown, 0)
    # Frames must not fly past. They may come late on a busy machine, but never early.
    first = pictures[0][1]
    assert min(at - first - number * 1001 / 30000 for number, at in pictures) > -1e-4
    assert ended - first > 90 * 1001 / 30000 - 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("key", ["q", "Escape"])
def test_a_paused_window_shows_the_frame_as_it_was_drawn(
    display: str, session: Path, key: str
) -> None:
    with Replay(display, session, "--loop") as run:
        picture = paused(run)
        number = number_in(picture)
        run.press("space")
        wait_until(lambda: number_shown(run) not in (-1, number), process=run.process)
        run.press(key)
        shown, passed_over = run.frames()
    assert number_drawn(picture) == number
    with dgrec.open(session) as opened, Pixels(Footage(session.with_name("numbered.mp4"))) as px:
        result = opened.result(number)
        image = px.frame(result.row)
    assert image is not None
    assert np.array_equal(result.overlay(image), picture)
    assert number + 1 < shown + passed_over


@pytest.mark.slow
def test_closing_the_window_ends_it(display: str, session: Path) -> None:
    with Replay(display, session, "--loop") as run:
        run.close_window()
        assert run.frames()[0] > 0


@pytest.mark.slow
def test_with_an_output_no_window_opens(display: str, session: Path, tmp_path: Path) -> None:
    with Replay(display, session, "--output", tmp_path / "a.mp4", "--end", "5") as run:
        code, out, _ = run.end()
    assert code == 0
    assert out == f"{tmp_path / 'a.mp4'}: 5 frames, 0.2 s\n"


@pytest.mark.slow
def test_a_window_opens_after_a_video_was_written(display: str, tmp_path: Path) -> None:
    """PyAV loaded before OpenCV makes the first window hang, at full CPU and beyond Ctrl-C."""
    code = (
        "import sys; import numpy as np; from pathlib import Path;"
        "from dgrec.replay.player.player import Window; from dgrec.video import VideoWriter;"
        "image = np.zeros((64, 64, 3), np.uint8); writer = VideoWriter(Path(sys.argv[1]), 64, 64);"
        "writer.write(image, 0); writer.finish(); window = Window('a', 64, 64); window.show(image);"
        "window.wait(0.1); window.close(); print('closed')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.mp4")],
        env={**os.environ, "DISPLAY": display, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (run.stdout, run.stderr) == ("closed\n", "")


@pytest.mark.slow
def test_windows_show_their_pictures_however_late_events_are_read(display: str) -> None:
    """Qt reads events in a thread of its own: when it comes late, Xlib must not take them."""
    code = """
import os
import numpy as np
from PIL import ImageGrab
from dgrec.replay.player.window import Window

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
with Window("first", 64, 64) as window:
    window.wait(0.01)
    for thread in map(int, os.listdir("/proc/self/task")):
        if thread != os.getpid():
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
    for grey in range(100, 108):
        with Window(f"window {grey}", 64, 64) as window:
            window.show(np.full((64, 64, 3), grey, np.uint8))
            while ImageGrab.grab(xdisplay=os.environ["DISPLAY"]).getpixel((32, 32))[0] != grey:
                window.wait(0.01)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DISPLAY": display, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.slow
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


@pytest.mark.slow
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


# --- keys ---


def settled(run: Replay, expected: int) -> Any:
    """Return the picture, once it is of the expected frame."""
    wait_until(lambda: number_shown(run) == expected, process=run.process)
    return run.screen()[:HEIGHT, :WIDTH]


@pytest.mark.slow
def test_keys_go_to_exact_frames(display: str, eventful_session: Path) -> None:
    with Replay(display, eventful_session, "--loop") as run:
        paused(run)
        run.press("Home")
        settled(run, 0)
        run.press("End")
        settled(run, FRAMES - 1)
        for key, expected in [
            ("Left", FRAMES - 1 - 250),
            ("period", FRAMES - 250),
            ("period", FRAMES - 249),
            ("comma", FRAMES - 250),
            ("n", 60),  # three frames were dropped before it
            ("n", 150),  # slow
            ("n", 200),  # a label appears
            ("p", 150),
            ("comma", 149),
        ]:
            run.press(key)
            picture = settled(run, expected)
            assert number_drawn(picture) == expected
        for key in ("l", "question", "question"):
            press_and_see(run, key)
        run.press("s")
        saved = eventful_session.parent / "e.frame-000149.png"
        wait_until(saved.exists, process=run.process)
        run.press("q")
        run.frames()
    import cv2

    assert number_drawn(cv2.imread(str(saved))) == 149


@pytest.mark.slow
def test_a_click_on_the_time_line_goes_there(display: str, eventful_session: Path) -> None:
    with Replay(display, eventful_session, "--loop") as run:
        paused(run)
        frames = frames_of(eventful_session)
        bar = TimeBar(frames, WIDTH, HEIGHT)
        column = bar.column_of(float(frames.times_us[123]))
        fraction = bar.fraction_at(column, HEIGHT + 12)
        assert fraction is not None
        expected = frames.at(fraction * frames.times_us[-1])
        assert abs(expected - 123) <= 1, "one column is about one frame here"
        run.click(column, HEIGHT + 12)
        picture = settled(run, expected)
        assert number_drawn(picture) == expected
        run.press("Escape")
        assert run.end()[0] == 0


# --- pace and pauses, by a clock of our own ---


class FakeTime:
    """A clock that stands in for `time`, and for the window: waiting makes it go on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pictures: list[tuple[float, Any]] = []
        self.screens: list[Any] = []
        self.keys: dict[float, int] = {}
        self.closed = False
        self.close_at = float("inf")
        self.painting = 0.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> int | None:
        self.now += max(seconds, 0.001)
        self.closed = self.now >= self.close_at
        for at in sorted(self.keys):
            if at <= self.now:
                return self.keys.pop(at)
        return None

    def clicks(self) -> list[tuple[int, int]]:
        return []

    def show(self, image: Any) -> None:
        self.screens.append(image)
        number = number_in(image)
        if not self.pictures or self.pictures[-1][1] != number:  # else only the bar is new
            self.pictures.append((round(self.now - 100, 2), number))

    def draw(self, result: Any, image: Any) -> Any:
        self.now += self.painting
        return image


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(player_module, "time", fake)
    return fake


def play(clock: FakeTime, session: Path, count: int = 30, **options: Any) -> Player:
    window: Any = clock
    with dgrec.open(session) as opened, Pixels(Footage(session.with_name("numbered.mp4"))) as px:
        head = Playhead(played_frames(opened, 0, count), **options)
        player = Player(
            window, opened, px, head, lambda look: clock, Canvas(WIDTH, HEIGHT), session.parent
        )
        player.play()
    return player


def test_pace(clock: FakeTime, session: Path) -> None:
    player = play(clock, session)
    assert (player.shown, player.notes()) == (30, [])
    for i, (at, number) in enumerate(clock.pictures):
        assert number == i
        assert at == pytest.approx(i * 1001 / 30000, abs=0.012)


def test_the_first_picture_does_not_wait_for_marks(
    clock: FakeTime, eventful_session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown_before = []

    def search(*arguments: Any) -> Marks:
        shown_before.append(len(clock.screens))
        return find_marks(*arguments)

    monkeypatch.setattr(player_module, "find_marks", search)
    # The key that goes to a mark waits for them.
    clock.keys = {100.1: ord(" "), 100.2: ord("n"), 100.4: ord("n"), 100.6: ord("q")}
    player = play(clock, eventful_session, FRAMES)
    assert shown_before == [1]
    assert player.head.frame == 150
    assert [number for _, number in clock.pictures[-2:]] == [60, 150]
    bars = [screen[HEIGHT:] for screen in (clock.screens[0], clock.screens[-1])]
    red = [bool(((bar[:, :, 2] > 200) & (bar[:, :, 0] < 100)).any()) for bar in bars]
    assert red == [False, True]


def test_an_error_of_the_search_ends_the_player(
    clock: FakeTime, session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(*_: Any) -> Marks:
        raise dgrec.SessionError("damaged")

    monkeypatch.setattr(player_module, "find_marks", search)
    clock.keys = {100.2: ord("n")}
    with pytest.raises(dgrec.SessionError, match="damaged"):
        play(clock, session)


def test_twice_the_pace(clock: FakeTime, session: Path) -> None:
    player = play(clock, session, speed=2.0)
    assert player.shown == 30
    assert clock.pictures[-1][0] == pytest.approx(29 * 1001 / 60000, abs=0.05)


def test_again_and_again(clock: FakeTime, session: Path) -> None:
    clock.close_at = 103.0
    play(clock, session, loop=True)
    numbers = [number for _, number in clock.pictures]
    assert numbers[:60] == [*range(30), *range(30)]


def test_a_pause_stops_the_clock(clock: FakeTime, session: Path) -> None:
    clock.keys = {100.5: ord(" "), 107.5: ord(" ")}
    clock.close_at = 120.0
    player = play(clock, session)
    assert player.shown == 30
    shown = dict(reversed([(number, at) for at, number in clock.pictures]))
    times = [shown[number] for number in range(30)]
    gaps = np.diff(times)
    assert gaps.max() == pytest.approx(7, abs=0.1)
    assert times[-1] == pytest.approx(29 * 1001 / 30000 + 7, abs=0.1)
    assert sorted(gaps)[-2] < 0.06, "after the pause it goes on at its pace"
    assert clock.pictures[-1][1] == 29, "who has taken control is left at the last frame"


@pytest.mark.parametrize("key", [ord("q"), 27, 0xFF1B])
def test_keys_end_it_even_in_a_pause(clock: FakeTime, session: Path, key: int) -> None:
    clock.keys = {100.2: ord(" "), 101.0: key}
    assert play(clock, session).shown < 10


def test_closing_ends_it_even_in_a_pause(clock: FakeTime, session: Path) -> None:
    clock.keys = {100.2: ord(" ")}
    clock.close_at = 101.0
    assert play(clock, session).shown < 10


def test_slow_drawing_passes_over_frames(clock: FakeTime, session: Path) -> None:
    clock.painting = 0.1
    player = play(clock, session, FRAMES)
    assert player.shown + player.head.passed_over == FRAMES
    assert player.head.passed_over > 60
    assert clock.pictures[-1][0] == pytest.approx(FRAMES / 30, abs=0.4), "in step with the clock"
    gaps = np.diff([at for at, _ in clock.pictures])
    assert gaps.max() < 0.7
    (note,) = player.notes()
    assert note.startswith(f"{player.head.passed_over} of {FRAMES} frames were passed over")


def test_a_frame_without_pixels_is_black_and_said(clock: FakeTime, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "numbered.mp4", 5)
    rows = [numbered_row(i, i if i != 2 else 99, media_time_s=i * 0.04) for i in range(5)]
    path = write_session(tmp_path / "s.parquet", rows, numbered_metadata(file_source(clip)))
    clock.show = lambda image: clock.screens.append(image)  # type: ignore[method-assign]
    play(clock, path, 5)
    # A screen may be shown again while the next one is being read.
    shown = [number_in(each) if each[:HEIGHT].any() else None for each in clock.screens]
    assert [number for number, _ in itertools.groupby(shown)] == [0, 1, None, 3, 4]


@pytest.mark.slow
def test_a_frame_that_cannot_be_saved_is_said(clock: FakeTime, session: Path) -> None:
    window: Any = clock
    with dgrec.open(session) as opened, Pixels(Footage(session.with_name("numbered.mp4"))) as px:
        player = Player(
            window,
            opened,
            px,
            Playhead(played_frames(opened)),
            lambda look: clock,
            Canvas(WIDTH, HEIGHT),
            session / "no folder",
        )
        clock.keys = {100.1: ord("s"), 100.3: ord("q")}
        player.play()
        assert player._message == "not saved: Not a directory"
        path = session / "no folder" / "s.frame-000002.png"
        assert f"{path}: cannot be written: Not a directory" in player.notes()
