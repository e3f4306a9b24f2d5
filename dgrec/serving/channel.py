"""Messages to any number of clients, each with a bounded queue of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Hashable
from typing import Any, Final, NamedTuple

from dgrec.message import Message

__all__ = ["Channel", "Client", "Loss"]

#: What may wait for a client. Clients that wait for the same messages share their memory.
_MOST_MESSAGES: Final = 1024
_MOST_BYTES: Final = 8 * 2**20
#: A client that has taken nothing for as long is not waited for.
_STALLED_S: Final = 2.0


class Loss(NamedTuple):
    """How many messages were left out, for how many clients."""

    messages: int = 0
    clients: int = 0

    def __add__(self, other: Any) -> Loss:
        return Loss(self.messages + other.messages, self.clients + other.clients)


class _Queue:
    """The newest messages, as many as fit."""

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self._bytes = 0

    def append(self, message: Message) -> int:
        """Add a message; return how many old ones made room for it."""
        self.messages.append(message)
        self._bytes += len(message.text)
        count = 0
        while len(self.messages) > _MOST_MESSAGES or (
            self._bytes > _MOST_BYTES and len(self.messages) > 1
        ):
            self.popleft()
            count += 1
        return count

    def popleft(self) -> Message:
        message = self.messages.popleft()
        self._bytes -= len(message.text)
        return message

    @property
    def is_full(self) -> bool:
        return len(self.messages) >= _MOST_MESSAGES or self._bytes >= _MOST_BYTES


class Client:
    """What waits for a client, which takes it in the server's loop."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.queue = _Queue()
        self.wake = asyncio.Event()
        self._left_out = 0
        self.moved_s = time.monotonic()

    def put(self, message: Message) -> None:
        self._left_out += self.queue.append(message)

    def is_waited_for(self) -> bool:
        return self.queue.is_full and time.monotonic() - self.moved_s < _STALLED_S

    @property
    def loss(self) -> Loss:
        """What was left out because it was too slow, or still waits at the end."""
        waiting = len(self.queue.messages) if self._channel.is_ending else 0
        count = self._left_out + waiting
        return Loss(count, 1 if count else 0)

    async def next(self) -> Message | None:
        """Wait for the next message, and take it; None once there are no more to come."""
        while True:
            with self._channel.changed:
                self.moved_s = time.monotonic()
                if self.queue.messages:
                    message = self.queue.popleft()
                    if len(self.queue.messages) in (0, _MOST_MESSAGES // 2):
                        self._channel.changed.notify_all()  # not for each one: that costs more
                    return message
                if self._channel.is_ending:
                    return None
                self.wake.clear()
            await self.wake.wait()


class Channel:
    """Hands each message to every client.

    `publish` and `end` are called in threads of the recording, the others in the server's loop.
    A client that joins gets the last message of each feed, or of each thing that it is about, at
    once. One that comes back and names the last message that it got, gets those that it missed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.changed = threading.Condition()
        self.is_ending = False
        self._loop = loop
        self._clients: set[Client] = set()
        self._last: dict[tuple[Hashable, str, str], Message] = {}
        self._recent = _Queue()
        self._is_waking = False
        #: Of clients that have left.
        self._loss = Loss()

    # --- for the recording ---

    def publish(self, feed: Hashable, message: Message, *, waits: bool) -> None:
        """Hand a message to all clients.

        Args:
            waits: Wait for clients that are slow, but not for those that take nothing.
        """
        with self.changed:
            while waits and any(client.is_waited_for() for client in self._clients):
                self.changed.wait(_STALLED_S)
            state = feed, message.event, message.of
            # The newest last, so that a late client gets them in their order.
            self._last.pop(state, None)
            if not message.ends:
                self._last[state] = message
            self._recent.append(message)
            for client in self._clients:
                client.put(message)
            self._wake()

    def wait_for_client(self) -> None:
        """Wait until there is a client."""
        with self.changed:
            while not self._clients:
                self.changed.wait()

    def end(self, patience_s: float) -> None:
        """Let clients take what waits for them, for a while, and then end."""
        until = time.monotonic() + patience_s
        with self.changed:
            self.is_ending = True
            self._wake()
            while self._clients and (left_s := until - time.monotonic()) > 0:
                self.changed.wait(left_s)

    @property
    def loss(self) -> Loss:
        """What was left out for clients that were too slow."""
        with self.changed:
            return sum((client.loss for client in self._clients), self._loss)

    # --- for clients ---

    def join(self, last_key: str = "") -> Client:
        client = Client(self)
        with self.changed:
            for message in self._missed(last_key):
                client.put(message)
            self._clients.add(client)
            self.changed.notify_all()
        return client

    def leave(self, client: Client) -> None:
        with self.changed:
            self._clients.discard(client)
            self._loss += client.loss
            self.changed.notify_all()

    # --- inside ---

    def _missed(self, last_key: str) -> list[Message]:
        recent = list(self._recent.messages)
        for index, message in enumerate(recent):
            if message.key == last_key:
                return recent[index + 1 :]
        return list(self._last.values())

    def _wake(self) -> None:
        if self._clients and not self._is_waking:
            self._is_waking = True
            self._loop.call_soon_threadsafe(self._wake_clients)

    def _wake_clients(self) -> None:
        with self.changed:
            self._is_waking = False
            for client in self._clients:
                client.wake.set()
