"""The server: an asyncio loop in a thread of its own, which answers by path."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

from aiohttp import web

from dgrec.errors import OutputError
from dgrec.serving.guard import Guard
from dgrec.serving.tls import Certificate, Handshake
from dgrec.terminal import echo

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

#: Connections at once. A recorder needs its file descriptors for other things.
_MOST_CONNECTIONS: Final = 64
#: New connections that may wait; a flood must not hold up others for seconds.
_BACKLOG: Final = 256
#: A connection without a request for this long is closed.
_KEEPALIVE_S: Final = 15.0
#: A connection whose client has read nothing of what was sent for this long is closed.
_UNTAKEN_S: Final = 30.0
#: A refused connection is closed after this long, if its client does not close it.
_REFUSED_S: Final = 1.0
#: How long the end waits for requests that are being answered.
_END_S: Final = 0.5
#: Headers of every answer.
HEADERS: Final = {
    "Server": "dgrec",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
#: Headers of every answer of a server with pages: these may load and do only what is served here.
PAGE_HEADERS: Final = {
    **HEADERS,
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "media-src 'self' blob:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: Add a handler to see the errors of requests. Without one, a scan of ports prints nothing.
_LOGGER: Final = logging.getLogger("dgrec.serving")
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False


@dataclass(frozen=True)
class Route:
    """Answers requests for a path.

    Args:
        origins: Other origins whose pages may ask, such as ``http://localhost:3000``.
        is_public: It needs no token, unless the user has set one.
        is_entry: Links on other pages may lead there, without the token: it has nothing secret.
    """

    handler: Handler
    origins: Collection[str] = ()
    is_public: bool = False
    is_entry: bool = False


class Server:
    """Serves an address until it has been closed as often as it was opened (see `open_server`).

    Args:
        has_pages: Whether browsers show pages of it: see `Guard`.

    Raises:
        OutputError: The address cannot be served.
    """

    def __init__(
        self,
        host: str,
        port: int,
        certificate: Certificate | None = None,
        *,
        has_pages: bool = False,
    ) -> None:
        self.host = host
        self.certificate = certificate
        self.has_pages = has_pages
        self._headers = PAGE_HEADERS if has_pages else HEADERS
        self._tls = None if certificate is None else certificate.context()
        self.users = 0
        self._has_said_token = False
        self._socket = _listening(host, port)
        self.port: int = self._socket.getsockname()[1]
        cookie = f"dgrec-{self.port}" if has_pages else ""
        self.guard = Guard(host, cookie=cookie, is_secure=certificate is not None)
        self._routes: dict[str, Route] = {}
        self._refused: set[asyncio.Transport] = set()
        #: Connections whose TLS handshake has not ended.
        self._handshakes: set[Handshake] = set()
        self._below_tls: WeakSet[asyncio.Transport] = WeakSet()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="dgrec-server", daemon=True)
        self._thread.start()
        try:
            self._ready.result()
        except OSError as error:  # no more file descriptors
            self._socket.close()
            raise OutputError(f"{self.address}: cannot be served: {error.strerror}") from None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    @property
    def address(self) -> str:
        """The host and port, as an address has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def add(self, path: str, route: Route) -> None:
        """Answer requests for a path.

        Raises:
            OutputError: Something else answers there already.
        """
        if path in self._routes:
            raise OutputError(f"{self.address}{path} is served already; choose another path")
        if not (route.is_public or self.has_pages):
            self._say_token()
        self._routes[path] = route
        # Not before there is a route: clients that connect earlier wait, and get an answer.
        asyncio.run_coroutine_threadsafe(self._listener.start_serving(), self._loop).result()

    def _say_token(self) -> None:
        if not self._has_said_token and self.guard.token and not self.guard.has_own_token:
            self._has_said_token = True
            echo(
                f"{self.address} asks for this token: {self.guard.token} "
                "(DGREC_TOKEN sets your own)",
                err=True,
            )

    def remove(self, path: str) -> None:
        """Stop answering requests for a path."""
        del self._routes[path]

    def close(self) -> None:
        """End all connections and free the port, if nobody else has opened this server."""
        with _lock:
            self.users -= 1
            if self.users:
                return
            del _servers[self.host, self.port]
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    # --- in the server's thread ---

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_log)
        self._stopping = asyncio.Event()
        # Handlers are cancelled when their client has left.
        self._server = web.Server(self._handle, handler_cancellation=True)
        self._listener = await self._loop.create_server(
            self._connection, sock=self._socket, backlog=_BACKLOG, start_serving=False
        )
        self._ready.set_result(None)
        await self._stopping.wait()
        # Accept no more, and let those that were accepted become connections: asyncio fails on them
        # when the listener is closed already.
        self._loop.remove_reader(self._socket.fileno())
        for _ in range(3):
            await asyncio.sleep(0)
        self._listener.close()
        # If a client reads nothing, data that waits for it would keep its connection open.
        open_ = [each.transport for each in self._server.connections]
        await self._server.shutdown(_END_S)
        for transport in [*open_, *self._refused, *self._below_tls]:
            if transport is not None:
                transport.abort()
        await asyncio.sleep(0)

    def _connection(self) -> asyncio.BaseProtocol:
        """Return the handler of a new connection."""
        if len(self._server.connections) + len(self._handshakes) >= _MOST_CONNECTIONS:
            return _Refusal(self._refused, _too_many(self._headers))
        if self._tls is not None:
            return Handshake(self._tls, self._requests, self._handshakes, self._below_tls)
        return self._requests()

    def _requests(self) -> asyncio.Protocol:
        return _Requests(
            self._server,
            headers=self._headers,
            loop=self._loop,
            access_log=_LOGGER,
            logger=_LOGGER,
            keepalive_timeout=_KEEPALIVE_S,
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        # As it was sent: no other spelling of a path leads anywhere.
        route = self._routes.get(request.raw_path.partition("?")[0])
        origins = () if route is None else route.origins
        is_public = route is not None and route.is_public
        is_entry = route is not None and route.is_entry
        response: web.StreamResponse | None
        response = self.guard.refusal(request, origins, is_public=is_public, is_entry=is_entry)
        if response is None:
            if route is None:
                response = web.Response(status=404, text="nothing is served here\n")
            elif request.method not in ("GET", "HEAD"):
                response = web.Response(status=405, headers={"Allow": "GET, HEAD"})
            else:
                return await route.handler(request)
        response.headers.update(self._headers)
        response.force_close()
        return response


def _log(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log asyncio's complaints; by itself it prints a traceback for each connection that
    cannot be accepted, hundreds a second where file descriptors have run out.
    """
    _LOGGER.error(context["message"], exc_info=context.get("exception"))


class _Requests(web.RequestHandler):
    """The requests of a connection; what is not HTTP gets an answer with our headers, too."""

    def __init__(self, *given: Any, headers: Mapping[str, str], **named: Any) -> None:
        super().__init__(*given, **named)
        self._headers = headers

    def handle_error(self, *given: Any, **named: Any) -> web.StreamResponse:
        response = super().handle_error(*given, **named)
        response.headers.update(self._headers)
        return response


class _Refusal(asyncio.Protocol):
    """Answers a connection that is one too many."""

    def __init__(self, refused: set[asyncio.Transport], answer: bytes) -> None:
        self._refused = refused
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._refused.add(transport)
        if len(self._refused) > _MOST_CONNECTIONS:
            transport.abort()
            return
        transport.write(self._answer)
        # If closed at once, before its request is read, its client would lose the answer.
        asyncio.get_running_loop().call_later(_REFUSED_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._refused.discard(self._transport)


def _too_many(headers: Mapping[str, str]) -> bytes:
    lines = (
        "HTTP/1.1 503 Service Unavailable",
        "Content-Length: 0",
        "Retry-After: 5",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
        "\r\n",
    )
    return "\r\n".join(lines).encode()


_lock = threading.Lock()
_servers: dict[tuple[str, int], Server] = {}


def open_server(
    host: str, port: int, certificate: Certificate | None = None, *, has_pages: bool = False
) -> Server:
    """Return the server of an address, which others may have opened as well; close it after use.

    Args:
        port: 0: any that is free.
        certificate: For TLS.
        has_pages: See `Server`.

    Raises:
        ConfigError: The certificate cannot be used.
        OutputError: The address cannot be served, or is served already with another certificate.
    """
    host = "127.0.0.1" if host == "localhost" else host
    with _lock:
        server = _servers.get((host, port))
        if server is None:
            server = Server(host, port, certificate, has_pages=has_pages)
            _servers[host, server.port] = server
        elif server.certificate != certificate:
            raise OutputError(
                f"{server.address} is served already with another certificate, or without one"
            )
        elif server.has_pages != has_pages:
            raise OutputError(f"{server.address} is served already; choose another port")
        server.users += 1
    return server


def _listening(host: str, port: int) -> socket.socket:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OutputError(
                f"{shown}: the port is in use by another program; choose another port"
            ) from None
        raise OutputError(f"{shown}: cannot be served: {error.strerror or error}") from None
    except ValueError:  # UnicodeError, for a name that cannot exist
        raise OutputError(f"{shown}: is not an address to serve") from None
    if option := getattr(socket, "TCP_USER_TIMEOUT", None):  # its connections inherit it
        listening.setsockopt(socket.IPPROTO_TCP, option, round(_UNTAKEN_S * 1000))
    return listening
