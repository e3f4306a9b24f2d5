"""A session in a window: at the pace at which it was recorded, or frame by frame."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from dgrec.errors import OutputError, VideoError
from dgrec.files import NewFile
from dgrec.footage import Pixels
from dgrec.replay.player.moments import Moments, find_moments
from dgrec.replay.player.playhead import Action, Look, Playhead
from dgrec.replay.player.time_bar import TimeBar
from dgrec.replay.rendering import Canvas
from dgrec.session import RecordedResult, Session
from dgrec.video import Image

__all__ = ["Look", "Paint", "Painter", "Player", "Window", "play_session"]

#: Largest part of a screen that a window takes at first; it can be resized.
_LARGEST = (1600, 900)
#: How long a message stays.
_MESSAGE_S = 2.5
#: Longest wait for a key: closing the window is noticed in between.
_WAIT_S = 0.03


class Painter(Protocol):
    """Draws a frame's results on its pixels."""

    def draw(self, result: RecordedResult, image: Image) -> Image: ...


#: Returns what draws frames with this look. It is asked once for each.
Paint = Callable[[Look], Painter]

_KEYS: dict[int, Action] = {
    **dict.fromkeys((ord("q"), ord("Q"), ord("x"), 27), "quit"),
    ord(" "): "pause",
    **dict.fromkeys((ord("."), ord(">")), "step"),
    **dict.fromkeys((ord(","), ord("<")), "step_back"),
    ord("]"): "jump",
    ord("["): "jump_back",
    **dict.fromkeys((ord("+"), ord("=")), "faster"),
    **dict.fromkeys((ord("-"), ord("_")), "slower"),
    **dict.fromkeys((ord("n"), ord("N")), "next_event"),
    **dict.fromkeys((ord("p"), ord("P")), "previous_event"),
    **dict.fromkeys((ord("l"), ord("L")), "labels"),
    **dict.fromkeys((ord("h"), ord("H")), "hud"),
    **dict.fromkeys((ord("s"), ord("S")), "save"),
    **dict.fromkeys((ord("?"), ord("/")), "help"),
}
#: Codes of keys without a character: of X11 (Qt and GTK windows), Windows, macOS.
_NAMED_KEYS: dict[int, Action] = {
    **dict.fromkeys((0xFF1B, 0x1B), "quit"),  # Esc
    **dict.fromkeys((0xFF53, 0x270000, 63235), "jump"),  # right
    **dict.fromkeys((0xFF51, 0x250000, 63234), "jump_back"),  # left
    **dict.fromkeys((0xFF50, 0x240000, 63273), "home"),
    **dict.fromkeys((0xFF57, 0x230000, 63275), "end"),
    # Of the number pad.
    **dict.fromkeys((0xFF98,), "jump"),
    **dict.fromkeys((0xFF96,), "jump_back"),
    **dict.fromkeys((0xFFAB,), "faster"),
    **dict.fromkeys((0xFFAD,), "slower"),
}


def action_of(key: int) -> Action | None:
    """Return what a key code of OpenCV's windows asks for, or None."""
    # GTK windows add modifiers (Num Lock, say) above 16 bits; Windows has its named keys there.
    for code in (key, key & 0xFFFF):
        if code in _NAMED_KEYS:
            return _NAMED_KEYS[code]
        if code in _KEYS:
            return _KEYS[code]
    return None


class Window:
    """An OpenCV window that knows when it was closed.

    Raises:
        VideoError: No window can be opened.
    """

    def __init__(self, title: str, width: int, height: int) -> None:
        # The Qt of OpenCV's wheels asks for fonts that they do not hold, once for each.
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
        import cv2

        self._cv2 = cv2
        self._title = title
        self._clicks: list[tuple[int, int]] = []
        self._is_held = False
        scale = min(1.0, _LARGEST[0] / width, _LARGEST[1] / height)
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            cv2.resizeWindow(title, max(1, int(width * scale)), max(1, int(height * scale)))
            cv2.setMouseCallback(title, self._on_mouse)
        except cv2.error as error:
            raise VideoError(
                f"no window can be opened ({_line(error)}); --output FILE.mp4 writes a video"
            ) from None

    def show(self, image: Image) -> None:
        self._cv2.imshow(self._title, image)

    def wait(self, seconds: float) -> int | None:
        """Wait, handling the window's events; return a key that was pressed, or None."""
        key = self._cv2.waitKeyEx(max(1, round(seconds * 1000)))
        return None if key < 0 else int(key)

    def clicks(self) -> list[tuple[int, int]]:
        """Return where (x, y of the picture) the mouse was pressed or dragged since last asked."""
        taken, self._clicks = self._clicks, []
        return taken

    def _on_mouse(self, event: int, x: int, y: int, flags: int, _: Any) -> None:
        cv2 = self._cv2
        if event == cv2.EVENT_LBUTTONDOWN:
            self._is_held = True
        elif event == cv2.EVENT_LBUTTONUP or not flags & cv2.EVENT_FLAG_LBUTTON:
            self._is_held = False
        if self._is_held and event in (cv2.EVENT_LBUTTONDOWN, cv2.EVENT_MOUSEMOVE):
            self._clicks.append((x, y))

    @property
    def closed(self) -> bool:
        """Whether the user has closed the window. `show` would open it again."""
        try:
            return bool(self._cv2.getWindowProperty(self._title, self._cv2.WND_PROP_VISIBLE) < 1)
        except self._cv2.error:
            return True

    def close(self) -> None:
        if not self.closed:
            self._cv2.destroyWindow(self._title)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class Player:
    """Shows the frames of a session in a window, as its user asks.

    Args:
        window: Where to.
        session: The session.
        pixels: Its pixels.
        head: Where the player stands, in which frames.
        paint: What draws them.
        canvas: The size that drawn frames are brought to.
        folder: Where frames are saved.
    """

    def __init__(
        self,
        window: Window,
        session: Session,
        pixels: Pixels,
        head: Playhead,
        paint: Paint,
        canvas: Canvas,
        folder: Path,
    ) -> None:
        self.window = window
        self.head = head
        self.shown = 0
        self._session = session
        self._pixels = pixels
        self._paint = paint
        self._canvas = canvas
        self._folder = folder
        self._bar = TimeBar(head.moments, canvas.width, canvas.height)
        self._painters: dict[Look, Painter] = {}
        self._drawn: tuple[int, Look, Image | None] | None = None
        self._message = ""
        self._message_until = 0.0
        #: What was not saved, and why.
        self._not_saved: dict[str, None] = {}

    def play(self) -> None:
        """Show frames until the last one is over, or the user ends it."""
        head = self.head
        is_new = True
        while not head.is_over:
            if is_new:
                screen = self._screen()
                # What the window shows now stays until this frame is due.
                self.window.show(screen)
                is_new = False
            now = time.monotonic()
            key = self.window.wait(min(head.due(now), _WAIT_S))
            if self.window.closed:
                return
            is_new = self._react(key)
            now = time.monotonic()
            if self._message and now >= self._message_until:
                self._message, is_new = "", True
            is_new = head.advance(now) or is_new

    def _react(self, key: int | None) -> bool:
        """Do what the user asked for; return whether the picture has to be drawn anew."""
        changed = False
        action = None if key is None else action_of(key)
        if action is not None:
            changed = self.head.act(action)
            if action == "save":
                self._say(self._save())
                changed = True
            elif action in ("next_event", "previous_event") and not self._stands_out():
                self._say("no other event " + ("after" if action == "next_event" else "before"))
        clicks = self.window.clicks()
        if clicks:
            fraction = self._bar.fraction_at(*clicks[-1])
            if fraction is not None:
                self.head.seek(fraction)
                changed = True
        return changed

    def _stands_out(self) -> bool:
        return bool(self.head.moments.kinds[self.head.frame])

    def _screen(self) -> Image:
        picture = self._picture()
        message = self._message
        if picture is None:
            # Boxes on nothing, or on the pixels of another frame, would say more than is known.
            picture = np.zeros((self._canvas.height, self._canvas.width, 3), np.uint8)
            message = message or "this frame has no pixels"
        return self._bar.draw(picture, self.head, message)

    def _picture(self) -> Image | None:
        """Return the frame that the player stands at, drawn, of the canvas's size."""
        head, look = self.head, self.head.look
        if self._drawn is not None and self._drawn[:2] == (head.frame, look):
            return self._drawn[2]
        if self._drawn is None or self._drawn[0] != head.frame:
            self.shown += 1
        result = self._session.result(int(head.moments.positions[head.frame]))
        image = self._pixels.frame(result.row)
        picture = None
        if image is not None:
            if look not in self._painters:
                self._painters[look] = self._paint(look)
            picture = self._canvas.fit(self._painters[look].draw(result, image))
        self._drawn = head.frame, look, picture
        return picture

    def _say(self, message: str) -> None:
        self._message, self._message_until = message, time.monotonic() + _MESSAGE_S

    def _save(self) -> str:
        """Save the frame as it is drawn; return what there is to say about it."""
        import cv2

        if self._drawn is None or self._drawn[2] is None:
            return "this frame has no pixels to save"
        number = int(self.head.moments.positions[self.head.frame])
        stem = f"{self._session.path.stem}.frame-{number:06}"
        _, data = cv2.imencode(".png", self._drawn[2])
        for more in range(1, 1000):
            path = self._folder / (f"{stem}.png" if more == 1 else f"{stem}-{more}.png")
            try:
                if os.path.lexists(path):
                    continue
                with NewFile(path) as new:
                    new.file.write(data.tobytes())
            except OutputError:  # another player came first
                continue
            except OSError as error:
                # There may be little room in the window: its whole name is said at the end.
                self._not_saved[f"{path}: cannot be written: {error.strerror}"] = None
                return f"not saved: {error.strerror}"
            return f"saved {path.name}"
        return f"{stem}.png: exists a thousand times"

    def notes(self) -> list[str]:
        """Return what the user should know at the end, a line each."""
        passed_over = self.head.passed_over
        if not passed_over:
            return [*self._not_saved]
        return [
            *self._not_saved,
            f"{passed_over:,} of {self.shown + passed_over:,} frames were passed over to keep pace "
            "(--output draws every one)",
        ]


def play_session(
    session: Session,
    pixels: Pixels,
    paint: Paint,
    canvas: Canvas,
    title: str,
    *,
    start: int = 0,
    end: int | None = None,
    wanted: Iterable[int] | None = None,
    speed: float = 1.0,
    loop: bool = False,
    look: Look | None = None,
) -> Player:
    """Play a stretch of a session in a new window and return the `Player`, when it is over.

    Args:
        session: The session.
        pixels: Its pixels.
        paint: Returns what draws the frames, for each look that the user chooses.
        canvas: The size of drawn frames.
        title: Of the window.
        start: Position of the first frame.
        end: Position to stop before.
        wanted: Positions of the frames to show; None: all.
        speed: Times the recorded pace.
        loop: Begin again after the last frame.
        look: What is drawn at first.

    Raises:
        VideoError: No window can be opened, or there is no frame to show.
    """
    moments: Moments = find_moments(session, start, end, wanted)
    if not len(moments):
        raise VideoError(f"{session.path}: no frames to show")
    head = Playhead(moments, speed=speed, loop=loop, look=look)
    bar = TimeBar(moments, canvas.width, canvas.height)
    with Window(title, canvas.width, canvas.height + bar.height) as window:
        folder = session.path.absolute().parent
        player = Player(window, session, pixels, head, paint, canvas, folder)
        player.play()
    return player
