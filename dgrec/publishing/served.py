"""A target that is served here, for any number of clients: WebSockets, Server-Sent Events."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import quote

from dgrec.errors import ConfigError, OutputError
from dgrec.message import Message
from dgrec.publishing.address import TargetAddress, filled_path
from dgrec.publishing.target import Target
from dgrec.serving import (
    Certificate,
    Channel,
    Receipt,
    Route,
    Server,
    open_server,
    serve_events,
    serve_websocket,
)
from dgrec.units import counted

#: How long the end waits for clients that have not got everything.
_PATIENCE_S: Final = 2.5
#: Characters that a path has unquoted (RFC 3986, section 3.3), besides letters, digits and -._~
_PLAIN: Final = "/!$&'()*+,;=:@"
_HANDLERS: Final = {"ws": serve_websocket, "sse": serve_events}


class ServedTarget(Target):
    """Serves messages at an address: a client that connects gets the last one, and all that follow.

    Each client has a queue of its own. A message has arrived once it was handed to the connection
    of every client that was connected; at once if there was none. Sources that are recorded
    together may share an address.

    Args:
        names: The texts that names in the path become: ``source``, ``session``.
        waits: Wait for slow clients, but not for those that read nothing.

    Raises:
        ConfigError: A certificate cannot be used.
        OutputError: The address cannot be served, or something else is served there.
    """

    def __init__(self, address: TargetAddress, names: Mapping[str, str], *, waits: bool) -> None:
        super().__init__()
        self.name = address.given
        self._waits = waits
        path = _as_asked(filled_path(address, names))
        try:
            self._place = _open_place(address, path)
        except (ConfigError, OutputError) as error:
            raise type(error)(f"--publish {address.given}: {error}") from None

    def wait_for_client(self) -> None:
        if self.on_wait is not None:
            self.on_wait(f"{self.name}: waiting for a client")
        self._place.channel.wait_for_client()

    def send(self, message: Message) -> None:
        receipt = Receipt(partial(self._take, message.key))
        self._place.channel.publish(self, message, waits=self._waits, receipt=receipt)

    def close(self) -> None:
        _close_place(self._place)
        if (loss := self._place.channel.loss).messages:
            raise OutputError(
                f"{counted(loss.clients, 'client')} read too slowly: "
                f"{counted(loss.messages, 'message')} left out"
            )


def _as_asked(path: str) -> str:
    """Return a path as browsers ask for it; the names of files may be any bytes."""
    return quote(path, safe=_PLAIN, errors="surrogateescape")


@dataclass
class _Place:
    """A path of a server, and how many targets publish there."""

    server: Server
    path: str
    scheme: str
    origins: tuple[str, ...]
    channel: Channel
    users: int = 0


_lock = threading.Lock()
_places: dict[tuple[Server, str], _Place] = {}


def _open_place(address: TargetAddress, path: str) -> _Place:
    certificate = None
    if file := address.option("cert"):
        certificate = Certificate(file, address.option("key"))
    server = open_server(address.host, address.port, certificate)
    origins = tuple(address.option("origin").split())
    with _lock:
        place = _places.get((server, path))
        try:
            if place is None:
                place = _Place(server, path, address.scheme, origins, Channel(server.loop))
                handler = partial(_HANDLERS[address.scheme], channel=place.channel)
                server.add(path, Route(handler, origins))
                _places[server, path] = place
            elif (place.scheme, place.origins) != (address.scheme, origins):
                raise OutputError(f"{path} is served already; choose another path")
        except BaseException:
            server.close()
            raise
        place.users += 1
    return place


def _close_place(place: _Place) -> None:
    with _lock:
        place.users -= 1
        is_last = not place.users
        if is_last:
            del _places[place.server, place.path]
            place.server.remove(place.path)
    if is_last:
        place.channel.end(_PATIENCE_S)
    place.server.close()
