"""Stages of work in parallel, each in a thread, with a few items between them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

__all__ = ["ahead"]

_Item = TypeVar("_Item")


def ahead(items: Iterable[_Item], name: str, depth: int = 2) -> Generator[_Item, None, None]:
    """Yield ``items`` in order, while a thread works on the next ones.

    Stages are nested: ``ahead(draw(ahead(decode(), "decode")), "draw")``. They run in parallel
    since OpenCV, PyAV and NumPy release Python's lock.

    An exception of ``items`` is raised here, after the items before it. Closing the generator, for
    example by `contextlib.closing`, ends the thread and closes ``items`` in it.

    Args:
        items: Iterated by the thread alone.
        name: Of the thread.
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
        except BaseException as error:  # raised below, in the other thread
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
            # It may be a large picture: free it before waiting for the next one.
            del entry
        ended = True
    finally:
        stopped.set()
        while not ended:  # lets a thread that is waiting to put an item go on to its end
            ended = waiting.get() is None
        thread.join()
    if failures:
        raise failures[0]
