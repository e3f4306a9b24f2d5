"""Messages to any number of clients, each with a bounded queue of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple

from dgrec.message import Message

#: Limits of what waits for a client. Clients that wait for the same messages share their memory.
_MOST_MESSAGES: Final = 1024
_MOST_BYTES: Final = 8 * 2**20
#: A client that has read nothing for this long is not waited for.
_STALLED_S: Final = 2.0


class Loss(NamedTuple):
    """How many messages were left out, for how many clients."""

    messages: int = 0
    clients: int = 0

    def __add__(self, other: Any) -> Loss:
        return Loss(self.messages + other.messages, self.clients + other.clients)


class Receipt:
    """Tracks whether all clients that were connected when a message was published got it.

    Args:
        on_taken: Called once, when they have, with the channel's lock held.
    """

    def __init__(self, on_taken: Callable[[], None]) -> None:
        self._on_taken = on_taken
        self._waiting = 0

    def hand_to(self, clients: int) -> None:
        self._waiting = clients
        if not clients:
            self._on_taken()

    def got(self) -> None:
        """Note that a client got it, or has left; a message left out for a client stays open."""
        self._waiting -= 1
        if not self._waiting:
            self._on_taken()


class _Item(NamedTuple):
    message: Message
    receipt: Receipt | None = None

    def got(self) -> None:
        if self.receipt is not None:
            self.receipt.got()


class _Queue:
    """The newest messages, as many as fit."""

    def __init__(self) -> None:
        self.items: deque[_Item] = deque()
        self._bytes = 0

    def append(self, item: _Item) -> int:
        """Add a message; return how many old ones made room for it."""
        self.items.append(item)
        self._bytes += len(item.message.text)
        count = 0
        while len(self.items) > _MOST_MESSAGES or (
            self._bytes > _MOST_BYTES and len(self.items) > 1
        ):
            self.popleft()
            count += 1
        return count

    def popleft(self) -> _Item:
        item = self.items.popleft()
        self._bytes -= len(item.message.text)
        return item

    @property
    def is_full(self) -> bool:
        return len(self.items) >= _MOST_MESSAGES or self._bytes >= _MOST_BYTES


class Client:
    """The messages that wait for a client, which takes them in the server's loop."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.queue = _Queue()
        self.wake = asyncio.Event()
        self._left_out = 0
        self._sending: _Item | None = None
        #: Whether it was disconnected because it reads nothing.
        self.is_stalled = False
        self.moved_s = time.monotonic()

    def put(self, item: _Item) -> None:
        self._left_out += self.queue.append(item)

    def is_waited_for(self) -> bool:
        return self.queue.is_full and time.monotonic() - self.moved_s < _STALLED_S

    @property
    def loss(self) -> Loss:
        """Messages left out because it was too slow, or still waiting at the end."""
        is_lost = self._channel.is_ending or self.is_stalled
        count = self._left_out + (len(self._open_items()) if is_lost else 0)
        return Loss(count, 1 if count else 0)

    async def next(self) -> Message | None:
        """Wait for the next message, and take it; None once there are no more to come."""
        while True:
            with self._channel.changed:
                self.moved_s = time.monotonic()
                sent, self._sending = self._sending, None
                if sent is not None:
                    sent.got()
                if self.queue.items:
                    item = self._sending = self.queue.popleft()
                    if len(self.queue.items) in (0, _MOST_MESSAGES // 2):
                        self._channel.changed.notify_all()  # not for each one: that costs more
                    return item.message
                if self._channel.is_ending:
                    return None
                self.wake.clear()
            await self.wake.wait()

    def leave(self) -> None:
        """Give up messages that it has not got; those that it was too slow for stay open."""
        if not (self._channel.is_ending or self.is_stalled):
            for item in self._open_items():
                item.got()

    def _open_items(self) -> list[_Item]:
        sending = [] if self._sending is None else [self._sending]
        return [*sending, *self.queue.items]


class Channel:
    """Hands each message to every client.

    `publish` and `end` are called in threads of the recording, the others in the server's loop.
    A client that joins gets the last message of each feed, or of each subject of a feed, at once.
    A client that comes back and names the last message that it got, gets those that it missed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.changed = threading.Condition()
        self.is_ending = False
        self._loop = loop
        self._clients: set[Client] = set()
        self._last: dict[tuple[Hashable, str, str], Message] = {}
        self._recent = _Queue()
        self._is_waking = False
        #: The losses of clients that have left.
        self._loss = Loss()

    # --- for the recording ---

    def publish(
        self, feed: Hashable, message: Message, *, waits: bool, receipt: Receipt | None = None
    ) -> None:
        """Hand a message to all clients.

        Args:
            waits: Wait for clients that are slow, but not for those that read nothing.
            receipt: Is notified once they have it.
        """
        with self.changed:
            while waits and any(client.is_waited_for() for client in self._clients):
                self.changed.wait(_STALLED_S)
            state = feed, message.event, message.of
            # The newest last, so that a late client gets them in their order.
            self._last.pop(state, None)
            if not message.ends:
                self._last[state] = message
            self._recent.append(_Item(message))
            for client in self._clients:
                client.put(_Item(message, receipt))
            if receipt is not None:
                receipt.hand_to(len(self._clients))
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
        """Messages left out for clients that were too slow."""
        with self.changed:
            return sum((client.loss for client in self._clients), self._loss)

    # --- for clients ---

    def join(self, last_key: str = "") -> Client:
        client = Client(self)
        with self.changed:
            for message in self._missed(last_key):
                client.put(_Item(message))
            self._clients.add(client)
            self.changed.notify_all()
        return client

    def leave(self, client: Client) -> None:
        with self.changed:
            self._clients.discard(client)
            self._loss += client.loss
            client.leave()
            self.changed.notify_all()

    # --- inside ---

    def _missed(self, last_key: str) -> list[Message]:
        recent = [item.message for item in self._recent.items]
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
