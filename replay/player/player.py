"""Plays a session in a window, at its recorded pace or frame by frame."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dgrec.errors import OutputError, VideoError
from dgrec.files import NewFile
from dgrec.footage import Pixels
from dgrec.replay.drawing import Painter
from dgrec.replay.player.marks import Marks, find_marks
from dgrec.replay.player.played_frames import played_frames
from dgrec.replay.player.playhead import Look, Playhead
from dgrec.replay.player.time_bar import TimeBar
from dgrec.replay.player.window import Window, action_of
from dgrec.replay.rendering import Canvas
from dgrec.session import Session
from dgrec.video import Image

__all__ = ["Look", "Player", "play_session"]

#: How long a message stays.
_MESSAGE_S = 2.5
#: Longest wait for a key: closing the window is noticed in between.
_WAIT_S = 0.03


class Player:
    """Shows the frames of a session in a window, as its user asks.

    Args:
        head: The frames, and which of them is shown.
        painter_for: Returns the painter for a look.
        canvas: The size that drawn frames are brought to.
        folder: Where frames are saved.
    """

    def __init__(
        self,
        window: Window,
        session: Session,
        pixels: Pixels,
        head: Playhead,
        painter_for: Callable[[Look], Painter],
        canvas: Canvas,
        folder: Path,
    ) -> None:
        self.window = window
        self.head = head
        self.shown = 0
        self._session = session
        self._pixels = pixels
        self._painter_for = painter_for
        self._canvas = canvas
        self._folder = folder
        self._bar = TimeBar(head.frames, canvas.width, canvas.height)
        self._search: Future[Marks] | None = None
        self._drawn: tuple[int, Look, Image | None] | None = None
        self._message = ""
        self._message_until = 0.0
        #: Which frames could not be saved, and why.
        self._not_saved: dict[str, None] = {}

    def play(self) -> None:
        """Show frames until the last one is over, or the user ends it.

        Marks are searched for in a thread once the first picture is shown: for a day of frames,
        that takes longer than showing a picture.

        Raises:
            SessionError: The search has met damage.
        """
        stop = threading.Event()
        with ThreadPoolExecutor(1, "dgrec-marks") as pool:
            try:
                self._play(pool, stop)
            finally:
                stop.set()

    def _play(self, pool: ThreadPoolExecutor, stop: threading.Event) -> None:
        head = self.head
        is_new = True
        while not head.is_over:
            if is_new:
                # The picture before stays in the window until this one is due.
                self.window.show(self._screen())
            now = time.monotonic()
            key = self.window.wait(min(head.due(now), _WAIT_S))
            if self.window.closed:
                return
            if self._search is None:
                self._search = pool.submit(find_marks, self._session.path, head.frames, stop)
            is_new = self._take_marks() if self._search.done() else False
            is_new = self._react(key) or is_new
            now = time.monotonic()
            if self._message and now >= self._message_until:
                self._message, is_new = "", True
            is_new = head.advance(now) or is_new

    def _take_marks(self) -> bool:
        """Show the marks, waiting for them if need be; return whether they are new."""
        assert self._search is not None
        before, self.head.marks = self.head.marks, self._search.result()
        return before is not self.head.marks

    def _react(self, key: int | None) -> bool:
        """Do what the user asked for; return whether the picture has to be drawn again."""
        head, changed = self.head, False
        action = None if key is None else action_of(key)
        if action is not None:
            if action in ("next_mark", "previous_mark"):
                self._take_marks()
            changed = head.act(action)
            if action == "save":
                self._say(self._save())
                changed = True
            elif action in ("next_mark", "previous_mark") and not head.marks.kinds[head.frame]:
                self._say("no other mark " + ("after" if action == "next_mark" else "before"))
        clicks = self.window.clicks()
        if clicks and (fraction := self._bar.fraction_at(*clicks[-1])) is not None:
            head.seek(fraction)
            changed = True
        return changed

    def _screen(self) -> Image:
        picture = self._picture()
        message = self._message
        if picture is None:
            # Boxes on nothing, or on another frame's pixels, would be wrong.
            picture = np.zeros((self._canvas.height, self._canvas.width, 3), np.uint8)
            message = message or "this frame has no pixels"
        return self._bar.draw(picture, self.head, message)

    def _picture(self) -> Image | None:
        """Return the current frame, drawn, in the size of the canvas."""
        head, look = self.head, self.head.look
        if self._drawn is not None and self._drawn[:2] == (head.frame, look):
            return self._drawn[2]
        if self._drawn is None or self._drawn[0] != head.frame:
            self.shown += 1
        result = self._session.result(int(head.frames.positions[head.frame]))
        image = self._pixels.frame(result.row)
        picture = None
        if image is not None:
            picture = self._canvas.fit(self._painter_for(look).draw(result, image))
        self._drawn = head.frame, look, picture
        return picture

    def _say(self, message: str) -> None:
        self._message, self._message_until = message, time.monotonic() + _MESSAGE_S

    def _save(self) -> str:
        """Save the frame as it is drawn; return a message about it."""
        import cv2

        if self._drawn is None or self._drawn[2] is None:
            return "this frame has no pixels to save"
        number = int(self.head.frames.positions[self.head.frame])
        stem = f"{self._session.path.stem}.frame-{number:06}"
        _, data = cv2.imencode(".png", self._drawn[2])
        for more in range(1, 1000):
            path = self._folder / (f"{stem}.png" if more == 1 else f"{stem}-{more}.png")
            try:
                with NewFile(path) as new:
                    new.file.write(data.tobytes())
            except OutputError:  # it exists
                continue
            except OSError as error:
                # The window may be too narrow for the whole path, which `notes` has.
                self._not_saved[f"{path}: cannot be written: {error.strerror}"] = None
                return f"not saved: {error.strerror}"
            return f"saved {path.name}"
        return f"{stem}.png: exists a thousand times"

    def notes(self) -> list[str]:
        """Return what the user should know at the end, a line each."""
        notes = [*self._not_saved]
        if skipped := self.head.passed_over:
            notes.append(
                f"{skipped:,} of {self.shown + skipped:,} frames were passed over to keep pace "
                "(--output draws every one)"
            )
        return notes


def play_session(
    session: Session,
    pixels: Pixels,
    painter_for: Callable[[Look], Painter],
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
        painter_for: Returns the painter for a look that the user chooses.
        canvas: The size of drawn frames.
        start: Position of the first frame.
        end: Position to stop before.
        wanted: Positions of the frames to show; None: all.
        speed: Times the recorded pace.
        loop: Begin again after the last frame.
        look: What is drawn at first.

    Raises:
        VideoError: No window can be opened, or there is no frame to show.
    """
    frames = played_frames(session, start, end, wanted)
    if not len(frames):
        raise VideoError(f"{session.path}: no frames to show")
    head = Playhead(frames, speed=speed, loop=loop, look=look)
    bar = TimeBar(frames, canvas.width, canvas.height)
    with Window(title, canvas.width, canvas.height + bar.height) as window:
        folder = session.place.parent
        player = Player(window, session, pixels, head, painter_for, canvas, folder)
        player.play()
    return player
