"""Stages of work side by side, each in a thread, with a few items between them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

__all__ = ["ahead"]

_Item = TypeVar("_Item")


def ahead(items: Iterable[_Item], name: str, depth: int = 2) -> Generator[_Item, None, None]:
    """Yield ``items`` in their order, while a thread already works on the next ones.

    Stages follow one another by nesting: ``ahead(draw(ahead(decode(), "decode")), "draw")``.
    What OpenCV, PyAV and NumPy do to a picture runs outside of Python's lock, so the stages really
    are side by side.

    Whatever ``items`` raises is raised here, after the items before it. Closing the generator (or
    leaving it by an exception, with `contextlib.closing`) ends the thread, and closes ``items`` in
    it.

    Args:
        items: What to yield: taken by the thread alone.
        name: What the thread is called.
        depth: How many items may wait; one more is being made, and one is in use.
    """
    waiting: queue.Queue[tuple[_Item] | None] = queue.Queue(depth)
    stopped = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for item in items:
                waiting.put((item,))
                if stopped.is_set():
                    break
        except BaseException as error:  # all of it belongs to whoever takes the items
            failures.append(error)
        finally:
            try:
                if isinstance(items, Generator):
                    items.close()
            except BaseException as error:
                failures.append(error)
            waiting.put(None)

    thread = threading.Thread(target=work, name=f"dgrec-{name}", daemon=True)
    thread.start()
    ended = False
    try:
        while (entry := waiting.get()) is not None:
            yield entry[0]
            # Not kept until the next one is there: it may be a large picture.
            del entry
        ended = True
    finally:
        stopped.set()
        while not ended:  # a thread that waits to put something goes on, and sees the end
            ended = waiting.get() is None
        thread.join()
    if failures:
        raise failures[0]
