"""A client of `dgrec view`: what its page would ask."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode

from dgrec.replay.viewing.server import ViewServer
from tests.waiting import PATIENCE_S

__all__ = ["Client", "served"]


class Client:
    """Asks a server, with its token."""

    def __init__(self, server: ViewServer) -> None:
        self.server = server
        self.token = server.url.partition("token=")[2]

    def ask(
        self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None, **query: Any
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Return status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE_S)
        target = f"{path}?{urlencode(query)}" if query else path
        with contextlib.closing(connection):
            given = {"Authorization": f"Bearer {self.token}"} if headers is None else headers
            connection.request(method, target, headers=given)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def json(self, path: str, **query: Any) -> Any:
        """Return an answer, which must be one."""
        status, _, body = self.ask(path, **query)
        assert status == 200, (path, query, body)
        return strict(body)

    def refused(self, path: str, **query: Any) -> tuple[int, str]:
        """Return status and error of a request that must be refused."""
        status, _, body = self.ask(path, **query)
        return status, strict(body)["error"]


def strict(body: bytes) -> Any:
    """Return the value of JSON as a browser would read it: no NaN, only UTF-8."""

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON")

    return json.loads(body.decode("utf-8"), parse_constant=refuse)


@contextlib.contextmanager
def served(*places: Path) -> Iterator[Client]:
    """Serve places, and give a client."""
    server = ViewServer(places, "127.0.0.1", 0)
    try:
        yield Client(server)
    finally:
        server.close()
