"""Real clients of what dgrec serves, each in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

import aiohttp

from tests.waiting import PATIENCE_S, wait_until

__all__ = ["WebSocketClient", "connection", "get", "silent_websocket"]


class WebSocketClient:
    """Takes the messages of a WebSocket until the server closes it."""

    def __init__(self, url: str, **options: Any) -> None:
        self.messages: list[bytes] = []
        self.close_code: int | None = None
        self.is_connected = threading.Event()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._connect, args=(url, options), daemon=True)
        self._thread.start()

    def _connect(self, url: str, options: dict[str, Any]) -> None:
        try:
            asyncio.run(self._run(url, options))
        except Exception as error:
            self.error = error

    async def _run(self, url: str, options: dict[str, Any]) -> None:
        try:
            await self._take(url, options)
        finally:
            # aiohttp closes TLS connections in the background, which the end would cut off.
            while url.startswith("wss:") and self._sockets():
                await asyncio.sleep(0.01)

    def _sockets(self) -> int:
        """Return how many connections the loop still watches."""
        selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
        return len(selector.get_map()) - 1  # its own pipe

    async def _take(self, url: str, options: dict[str, Any]) -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(url, **options) as taken:
            self.is_connected.set()
            async for message in taken:
                assert message.type is aiohttp.WSMsgType.TEXT
                self.messages.append(message.data.encode())
            self.close_code = taken.close_code

    def wait_for(self, count: int) -> Self:
        self._wait_until(lambda: len(self.messages) >= count)
        return self

    def wait_for_end(self) -> Self:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        assert self.error is None, repr(self.error)
        return self

    def _wait_until(self, is_so: Callable[[], bool]) -> None:
        wait_until(lambda: is_so() or not self._thread.is_alive())
        assert is_so(), f"the connection has ended: {self.error!r}"

    def __enter__(self) -> Self:
        self._wait_until(self.is_connected.is_set)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.wait_for_end()


def connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def silent_websocket(port: int, path: str = "/ws") -> socket.socket:
    """Return a WebSocket that is open, and whose client reads nothing more."""
    opened = connection(port)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    assert opened.recv(12) == b"HTTP/1.1 101"
    return opened


def get(port: int, path: str, *headers: str, method: str = "GET") -> tuple[int, bytes]:
    """Return the status and the rest of an answer; nothing of the request is corrected."""
    with connection(port) as opened:
        lines = [f"{method} {path} HTTP/1.1", *(headers or (f"Host: 127.0.0.1:{port}",))]
        opened.sendall(
            "\r\n".join([*lines, "Connection: close", "", ""]).encode(errors="surrogateescape")
        )
        answer = b""
        while part := opened.recv(65536):
            answer += part
    return int(answer.split(maxsplit=2)[1]), answer
