"""A model zoo on HTTP, with the bundled model, as DeGirum's cloud serves one to PySDK."""

from __future__ import annotations

import io
import json
import zipfile
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Self

from dgrec import sample
from tests.web_server import serving

__all__ = ["Hub"]


class Hub:
    """Serves ``ORGANISATION/ZOO`` on loopback, and keeps the requests that it got.

    Args:
        names: What else the zoo says that it has.
    """

    def __init__(self, zoo: str = "degirum/hailo", names: tuple[str, ...] = ()) -> None:
        self.zoo = zoo
        self.names = (sample.MODEL_NAME, *names)
        #: (path, token) of every request, in their order.
        self.requests: list[tuple[str, str | None]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.requests.append((self.path, self.headers.get("token")))
                answer = hub.answer(self.path)
                self.send_response(404 if answer is None else 200)
                body = b'{"detail": "not found"}' if answer is None else answer
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Keep the test's output clean."""

        self._serving = serving(Handler)

    @property
    def url(self) -> str:
        return f"{self.address}/{self.zoo}"

    def answer(self, path: str) -> bytes | None:
        path = path.partition("?")[0]
        models = f"/zoo/v1/public/models/{self.zoo}"
        if path == f"/api/v1/public/zoos-check/{self.zoo}":
            return b"{}"
        if path == models:
            return json.dumps({name: _parameters() for name in self.names}).encode()
        if path == f"{models}/{sample.MODEL_NAME}/info":
            info = {"model_params": _parameters(), "model_labels": {"0": "face"}}
            return json.dumps(info).encode()
        if path == f"{models}/{sample.MODEL_NAME}/dictionary":
            return b'{"0": "face"}'
        if path == f"{models}/{sample.MODEL_NAME}":
            return _archive()
        return None

    def __enter__(self) -> Self:
        self.address = self._serving.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._serving.__exit__(kind, error, trace)


def _parameters() -> dict[str, object]:
    folder = sample.ZOO / sample.MODEL_NAME
    parameters: dict[str, object] = json.loads((folder / f"{sample.MODEL_NAME}.json").read_text())
    return parameters


def _archive() -> bytes:
    body = io.BytesIO()
    folder = sample.ZOO / sample.MODEL_NAME
    with zipfile.ZipFile(body, "w") as archive:
        for path in folder.iterdir():
            if path.is_file():
                archive.write(path, f"{sample.MODEL_NAME}/{path.name}")
    return body.getvalue()
