"""The clients of a channel: WebSockets and Server-Sent Events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

from aiohttp import WSCloseCode, web

from dgrec.serving.channel import Channel, Client
from dgrec.serving.server import HEADERS

#: Seconds between signs of life to a client that gets no messages.
_HEARTBEAT_S: Final = 15.0
#: A connection whose client has read nothing for this long is closed.
_PATIENCE_S: Final = 30.0
#: Bytes of a message from a client, which is not looked at.
_LARGEST_RECEIVED: Final = 4096
_RETRY_MS: Final = 2000
EVENT_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "X-Accel-Buffering": "no",  # proxies hand events on at once
}


async def serve_websocket(request: web.BaseRequest, channel: Channel) -> web.StreamResponse:
    """Send the messages of a channel to a WebSocket, a text frame each."""
    socket = web.WebSocketResponse(
        heartbeat=_HEARTBEAT_S, compress=False, max_msg_size=_LARGEST_RECEIVED, timeout=1.0
    )
    # With a key that is not ASCII, aiohttp would raise an error.
    is_ascii = request.headers.get("Sec-WebSocket-Key", "").isascii()
    if not is_ascii or not socket.can_prepare(request).ok:
        return web.Response(
            status=426, text="a WebSocket\n", headers={**HEADERS, "Upgrade": "websocket"}
        )
    socket.headers.update(HEADERS)
    await socket.prepare(request)
    client = channel.join()
    sending = asyncio.create_task(_send_frames(socket, client, request))
    try:
        async for _ in socket:  # answers pings, and notices the end
            pass
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
        channel.leave(client)
    return socket


async def _send_frames(
    socket: web.WebSocketResponse, client: Client, request: web.BaseRequest
) -> None:
    with _ends_silently(request, client):
        while (message := await client.next()) is not None:
            async with asyncio.timeout(_PATIENCE_S):
                await socket.send_str(message.text.decode())
        await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the recording has ended")


async def serve_events(request: web.BaseRequest, channel: Channel) -> web.StreamResponse:
    """Send the messages of a channel as Server-Sent Events; ``id`` is the key of each."""
    response = web.StreamResponse(headers={**HEADERS, **EVENT_HEADERS})
    if origin := request.headers.get("Origin"):  # one that may ask
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] = "Origin"
    response.force_close()
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    client = channel.join(request.headers.get("Last-Event-ID", ""))
    try:
        with _ends_silently(request, client):
            await response.write(b"retry: %d\n\n" % _RETRY_MS)
            while True:
                try:
                    async with asyncio.timeout(_HEARTBEAT_S):
                        message = await client.next()
                except TimeoutError:
                    event = b":\n\n"
                else:
                    if message is None:
                        break
                    kind = b"event: %s\n" % message.event.encode() if message.event else b""
                    event = b"id: %s\n%sdata: %s\n\n" % (message.key.encode(), kind, message.text)
                async with asyncio.timeout(_PATIENCE_S):
                    await response.write(event)
            await response.write_eof()
    finally:
        channel.leave(client)
    return response


@contextlib.contextmanager
def _ends_silently(request: web.BaseRequest, client: Client) -> Iterator[None]:
    """End the connection if its client is gone, or reads nothing."""
    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        client.is_stalled = isinstance(error, TimeoutError)
        if request.transport is not None:
            request.transport.abort()
