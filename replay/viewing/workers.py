"""Threads for work that would hold up the server: reading files, DuckDB, decoding."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

_T = TypeVar("_T")
_READERS = 4
#: The beginning of the names of a viewer's threads.
THREADS: Final = "dgrec-viewing"


class CancelledError(Exception):
    """The client has gone, or the server ends: the answer is not needed any more."""


class Task:
    """One piece of work, which ends early when nobody waits for its answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._interrupts: list[Callable[[], None]] = []

    @property
    def is_cancelled(self) -> bool:
        return self._is_cancelled

    def check(self) -> None:
        """Raise `CancelledError` if nobody waits for the answer."""
        if self._is_cancelled:
            raise CancelledError

    @contextlib.contextmanager
    def interrupted_by(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call ``interrupt``, in another thread, if the task is cancelled within the block."""
        with self._lock:
            self.check()
            self._interrupts.append(interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)

    def cancel(self) -> None:
        with self._lock:
            self._is_cancelled = True
            for interrupt in self._interrupts:
                interrupt()


class Workers:
    """A few threads that read, and one for statements of users: those may take all memory."""

    def __init__(self) -> None:
        self._readers = ThreadPoolExecutor(_READERS, THREADS)
        self._statements = ThreadPoolExecutor(1, f"{THREADS}-sql")
        self._tasks: set[Task] = set()
        self._is_closed = False

    async def run(self, work: Callable[[Task], _T], *, is_statement: bool = False) -> _T:
        """Run work in a thread and return its result; it ends early if this is cancelled."""
        if self._is_closed:
            raise CancelledError
        task = Task()

        def begun() -> _T:
            task.check()
            return work(task)

        self._tasks.add(task)
        pool = self._statements if is_statement else self._readers
        try:
            return await asyncio.wrap_future(pool.submit(begun))
        finally:  # if it is not done, it is cancelled
            task.cancel()
            self._tasks.discard(task)

    def submit(self, work: Callable[[], None]) -> None:
        """Do work in the background that no request waits for."""
        self._readers.submit(work)

    def close(self) -> None:
        """End all work. Threads are not waited for."""
        self._is_closed = True
        for task in [*self._tasks]:
            task.cancel()
        for pool in (self._readers, self._statements):
            pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def held(lock: Any, task: Task) -> Iterator[None]:
    """Hold a lock; give up waiting for it if nobody waits for the answer."""
    while not lock.acquire(timeout=0.1):
        task.check()
    try:
        yield
    finally:
        lock.release()
