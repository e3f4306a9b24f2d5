"""The base class of targets, which take published messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from dgrec.message import Message


class Target:
    """Takes messages, one after the other, in one thread.

    ``delivered`` counts those that arrived, as far as the target says so. Messages that were taken
    and did not arrive are lost when it is closed.
    """

    #: Used in messages; without secrets.
    name = ""
    #: Whether a recording of a file waits for it: then nothing is left out.
    is_waited_for = False

    def __init__(self) -> None:
        self.delivered = 0
        #: Called with the key of each message once it has arrived, in any thread.
        self.on_taken: Callable[[str], None] | None = None
        #: Called with a line, once, when a target is away and `send` waits for it.
        self.on_wait: Callable[[str], None] | None = None

    def _take(self, key: str) -> None:
        """Count a message that has arrived, as far as the target says so."""
        self.delivered += 1
        if self.on_taken is not None:
            self.on_taken(key)

    def _report_wait(self, reason: str) -> None:
        if self.on_wait is not None:
            self.on_wait(f"{self.name}: {reason}; it is tried again until it takes messages")
            self.on_wait = None

    def wait_for_client(self) -> None:
        """Wait until a client listens, if messages are served here."""

    def send(self, message: Message) -> None:
        """Take a message; wait while the target takes no more.

        The target may get a message twice, with the same key.

        Raises:
            OutputError: It takes no more messages.
        """
        raise NotImplementedError

    def give_up(self) -> None:
        """Have `send`, in another thread, wait no longer."""

    def close(self) -> None:
        """Wait for messages that were taken, as long as that is worth it, and end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
