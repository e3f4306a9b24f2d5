"""Stages of work in parallel, each in a thread, with a few items between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_END: Any = object()


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
    iterator = iter(items)
    with ThreadPoolExecutor(1, f"dgrec-{name}") as thread:
        waiting = deque(thread.submit(next, iterator, _END) for _ in range(depth + 1))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(thread.submit(next, iterator, _END))
                yield item
                # It may be a large picture: free it before waiting for the next one.
                del item
        finally:
            for future in waiting:
                future.cancel()
            if isinstance(iterator, Generator):
                thread.submit(iterator.close).result()
