"""The server of `dgrec view`: its paths, and how each is answered."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import threading
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from aiohttp import web

from dgrec.errors import DgrecError
from dgrec.files import placed
from dgrec.replay.viewing import card, differences, pictures, rows, statements
from dgrec.replay.viewing.downloads import Downloads, command
from dgrec.replay.viewing.files import open_regular, serve_file
from dgrec.replay.viewing.live import answer_newest, serve_live
from dgrec.replay.viewing.opened_session import OpenedSession
from dgrec.replay.viewing.pages import Pages
from dgrec.replay.viewing.pairs import Pair, Pairs
from dgrec.replay.viewing.parameters import Parameters, RequestError, status_and_text
from dgrec.replay.viewing.questions import ANSWERS, STATEMENTS
from dgrec.replay.viewing.recorder_link import RecorderLink
from dgrec.replay.viewing.recordings import Recordings
from dgrec.replay.viewing.statement_process import StatementProcess
from dgrec.replay.viewing.values import json_bytes
from dgrec.replay.viewing.workers import THREADS, Task, Workers
from dgrec.serving import PAGE_HEADERS, Certificate, Route, open_server
from dgrec.terminal import detail, line

_T = TypeVar("_T")

_STATIC: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/NOTICE": ("NOTICE", "text/plain; charset=utf-8"),
}
#: Seconds after which files that were removed are closed.
_TIDY_S: Final = 10.0
#: Answers a request about one session.
Answer = Callable[[OpenedSession, Parameters, Task], Any]


class ViewServer:
    """Serves recordings until it is closed.

    Args:
        places: Sessions, folders and globs.
        port: 0: any that is free.
        has_downloads: Pages may have clips, exports and pictures made.

    Raises:
        ConfigError: The certificate cannot be used.
        OutputError: The address cannot be served.
    """

    def __init__(
        self,
        places: Sequence[Path],
        host: str,
        port: int,
        certificate: Certificate | None = None,
        *,
        has_downloads: bool = True,
    ) -> None:
        self.recordings = Recordings(places)
        self.pages = Pages()
        #: The link to the process that records, if that has started this one.
        self.recorder: RecorderLink | None = None
        self._pairs = Pairs(self.recordings)
        self._downloads = Downloads() if has_downloads else None
        self._workers = Workers()
        self._statements = StatementProcess()
        self._server = open_server(host, port, certificate, has_pages=True)
        #: The paths that are served.
        self.paths: list[str] = []
        self._is_closing = threading.Event()
        try:
            self._add_all()
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._tidy, name=f"{THREADS}-tidying", daemon=True).start()

    @property
    def url(self) -> str:
        """The address of the page, with the token."""
        return self._url(self._server.guard.token)

    def single_use_url(self) -> str:
        """Return the address with a token that can be used once."""
        return self._url(self._server.guard.make_single_use())

    def _url(self, token: str) -> str:
        scheme = "http" if self._server.certificate is None else "https"
        address = self._server.address
        if self._server.host in ("0.0.0.0", "::"):
            address = f"{socket.gethostname()}:{self.port}"
        return f"{scheme}://{address}/?token={quote(token, safe='')}"

    def prepare(self) -> None:
        """Load in the background what the first requests need: it takes a second or more."""
        self._workers.submit(_load)

    @property
    def port(self) -> int:
        return self._server.port

    def close(self) -> None:
        """End all connections, and all work."""
        self._is_closing.set()
        for path in self.paths:
            self._server.remove(path)
        self._workers.close()
        self._statements.close()
        self._server.close()
        self._pairs.close()
        self.recordings.close()
        if self._downloads is not None:
            self._downloads.close()

    def _tidy(self) -> None:
        """Close what was removed: it takes space on the disk for as long as it is open."""
        while not self._is_closing.wait(_TIDY_S):
            with contextlib.suppress(OSError):  # they cannot be looked at now
                self._pairs.close_outdated()
                self.recordings.close_outdated()
            self._statements.end_idle()

    # --- paths ---

    def _add_all(self) -> None:
        for path, (name, mime) in _STATIC.items():
            static = functools.partial(self._static, name=name, mime=mime)
            self._add(path, static, is_entry=path == "/")
        self._add("/favicon.ico", self._nothing)  # browsers ask for it
        self._add("/api/sessions", self._sessions)
        self._add_work("/api/questions", lambda *_: json_bytes(statements.questions()))
        self._add("/video", self._video)
        self._add("/api/live", self._live)
        self._add("/api/newest", self._newest)
        self._add("/api/page", self._page)
        self._add("/api/downloads", self._allowed)
        self._add("/api/make", self._make)
        self._add("/made", self._file)
        self._add_answer("/api/card", card.card)
        self._add_answer("/api/rows", rows.rows)
        self._add_answer("/api/row", rows.row)
        self._add_answer("/api/at", rows.nearest)
        self._add_answer("/api/overlay", _overlay)
        self._add("/api/picture", self._picture)
        self._add_answer("/api/thumb", pictures.thumbnail, mime="image/jpeg")
        for path, answer in ANSWERS.items():
            self._add_answer(path, answer)
        for path in STATEMENTS:
            self._add_statement(path)
        self._add_pair("/api/pair", differences.differences)
        self._add_pair("/api/pair/next", differences.next_difference)
        self._add_pair("/api/verdict", differences.verdict)
        self._add_pair("/api/pair/marks", differences.pair_marks)
        self._add_pair("/api/pair/series", differences.pair_series)

    def _add(self, path: str, handler: Any, *, is_entry: bool = False) -> None:
        self._server.add(path, Route(handler, is_entry=is_entry))
        self.paths.append(path)

    def _add_work(self, path: str, work: Callable[[Task, Parameters], bytes], **how: Any) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await self._answered(request, work, **how)

        self._add(path, handle)

    def _add_answer(
        self,
        path: str,
        answer: Answer,
        *,
        mime: str = "application/json",
    ) -> None:
        def work(task: Task, parameters: Parameters) -> bytes:
            found = self._read(parameters, lambda opened: answer(opened, parameters, task))
            return found if isinstance(found, bytes) else json_bytes(found)

        self._add_work(path, work, mime=mime)

    def _add_statement(self, path: str) -> None:
        def work(task: Task, parameters: Parameters) -> bytes:
            def run(opened: OpenedSession) -> bytes:
                request = {
                    "path": path,
                    "s": opened.name,
                    "file": str(placed(opened.session.path)),
                    "version": opened.version,
                    "query": parameters.texts(),
                }
                return self._statements.run(request, task)

            return self._read(parameters, run)

        self._add_work(path, work, is_statement=True)

    def _read(self, parameters: Parameters, answer: Callable[[OpenedSession], _T]) -> _T:
        def work(opened: OpenedSession) -> _T:
            _check_known(opened, parameters)
            return answer(opened)

        return self.recordings.read(parameters.text("s"), work)

    def _add_pair(self, path: str, answer: Callable[[Pair, Parameters, Task], Any]) -> None:
        def work(task: Task, parameters: Parameters) -> bytes:
            pair = self._pairs.get(parameters.text("a"), parameters.text("b"))
            return json_bytes(answer(pair, parameters, task))

        self._add_work(path, work)

    async def _answered(
        self,
        request: web.BaseRequest,
        work: Callable[[Task, Parameters], bytes],
        *,
        mime: str = "application/json",
        is_statement: bool = False,
    ) -> web.StreamResponse:
        """Do the work of a request in a thread, and answer with its result."""
        try:
            body = await self._workers.run(
                lambda task: work(task, Parameters(request.query)), is_statement=is_statement
            )
        except Exception as error:  # sessions are untrusted: one must not end the others
            return _refused(error)
        return web.Response(body=body, content_type=mime, headers=PAGE_HEADERS)

    # --- answers ---

    async def _static(
        self, request: web.BaseRequest, *, name: str, mime: str
    ) -> web.StreamResponse:
        if "token" in request.query:
            # The browser keeps what follows the #.
            response = web.Response(status=303, headers={**PAGE_HEADERS, "Location": "/"})
            self._server.guard.set_cookie(response)
            return response
        try:
            body = resources.files("dgrec.replay.viewing").joinpath("static", name).read_bytes()
        except OSError:
            return web.Response(status=404, text=f"{name} is missing\n", headers=PAGE_HEADERS)
        return web.Response(body=body, headers={**PAGE_HEADERS, "Content-Type": mime})

    async def _nothing(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=204, headers=PAGE_HEADERS)

    async def _sessions(self, request: web.BaseRequest) -> web.StreamResponse:
        def work(task: Task, parameters: Parameters) -> bytes:
            def matches(paths: list[Path], condition: str) -> set[str]:
                request = {"paths": [str(placed(path)) for path in paths], "where": condition}
                there = json.loads(self._statements.run(request, task))
                return {str(path) for path in paths if str(placed(path)) in there}

            return json_bytes(card.sessions(self.recordings, parameters, matches))

        return await self._answered(request, work, is_statement="where" in request.query)

    async def _picture(self, request: web.BaseRequest) -> web.StreamResponse:
        headers: dict[str, str] = {}

        def work(task: Task, parameters: Parameters) -> bytes:
            data, position = self._read(
                parameters, lambda opened: pictures.picture(opened, parameters, task)
            )
            headers["X-Position"] = str(position)
            return data

        answer = await self._answered(request, work, mime="image/jpeg")
        answer.headers.update(headers)
        return answer

    async def _live(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            name = Parameters(request.query).text("s")
            await self._workers.run(lambda task: self.recordings.path_of(name))
        except DgrecError as error:
            return _refused(error)
        return await serve_live(request, name, self.recordings, self._workers, self.recorder)

    async def _newest(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            parameters = Parameters(request.query)
            name, after_us = parameters.text("s"), parameters.whole("after", 0, least=0, most=2**62)
            path = await self._workers.run(lambda task: self.recordings.path_of(name))
            return await answer_newest(path, after_us, self.recorder)
        except Exception as error:
            return _refused(error)

    async def _page(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            parameters = Parameters(request.query)
            is_closed = bool(parameters.whole("closed", 0, least=0, most=1))
            self.pages.seen(parameters.text("id")[:64], is_closed=is_closed)
        except DgrecError as error:
            return _refused(error)
        return web.Response(status=204, headers=PAGE_HEADERS)

    async def _allowed(self, request: web.BaseRequest) -> web.StreamResponse:
        body = json_bytes({"are_allowed": self._downloads is not None})
        return web.Response(body=body, content_type="application/json", headers=PAGE_HEADERS)

    async def _make(self, request: web.BaseRequest) -> web.StreamResponse:
        def work(task: Task) -> tuple[list[str], str]:
            parameters = Parameters(request.query)
            name = parameters.text("s")
            with self.recordings.opened(name) as opened:
                _check_known(opened, parameters)
                if not opened.count:
                    raise RequestError("nothing was recorded: there are no frames", 422)
                first, last = (
                    parameters.whole(of, least=0, most=opened.count - 1) for of in ("first", "last")
                )
                kind, form = parameters.text("kind"), parameters.text("format", "")
                return command(opened.session.path, kind, first, max(first, last), form, name)

        try:
            if self._downloads is None:
                raise RequestError("downloads are off; dgrec view --downloads allows them", 403)
            found = await self._downloads.make(*await self._workers.run(work))
        except Exception as error:
            return _refused(error)
        body = json_bytes(found)
        return web.Response(body=body, content_type="application/json", headers=PAGE_HEADERS)

    async def _file(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if self._downloads is None:
                raise RequestError("downloads are off; dgrec view --downloads allows them", 403)
            file = self._downloads.file(Parameters(request.query).text("id"))
            opened = await self._workers.run(lambda task: open_regular(file))
        except Exception as error:
            return _refused(error)
        return await serve_file(request, opened, "application/octet-stream", name=file.name)

    async def _video(self, request: web.BaseRequest) -> web.StreamResponse:
        def work(task: Task) -> Any:
            parameters = Parameters(request.query)
            with self.recordings.opened(parameters.text("s")) as opened:
                _check_known(opened, parameters)
                videos = opened.videos.all
                k = parameters.whole("k", least=-1, most=len(videos))
                if not 0 <= k < len(videos):
                    raise RequestError("there is no such video", 404)
                return open_regular(videos[k].path, videos[k].inode), videos[k].mime

        try:
            file, mime = await self._workers.run(work)
        except Exception as error:
            return _refused(error)
        return await serve_file(request, file, mime)


def _check_known(opened: OpenedSession, parameters: Parameters) -> None:
    known = parameters.text("known", "")
    if known and not opened.is_known_by(known):
        raise RequestError("the frames of this recording have other positions by now", 409)


def _load() -> None:
    for name in ("av", "duckdb", "dgrec.replay.viewing.overlay", "degirum.postprocessor"):
        with contextlib.suppress(ImportError):
            import_module(name)


def _overlay(opened: OpenedSession, parameters: Parameters, task: Task) -> bytes:
    start, stop = parameters.positions(opened.count, 300)
    # It imports PySDK, which takes a second to load.
    overlay = import_module("dgrec.replay.viewing.overlay")
    with opened.rows:
        found = overlay.drawings(opened.session, start, stop)
    # Its numbers are small and finite; looking at each of them would take as long as drawing.
    return json.dumps(found, allow_nan=False, separators=(",", ":")).encode()


def _refused(error: Exception) -> web.Response:
    known = status_and_text(error)
    if known is not None:
        status, text = known
    else:
        status, text = 500, f"it cannot be shown ({type(error).__name__})"
        detail("".join(traceback.format_exception(error)))
    return web.Response(
        status=status,
        body=json_bytes({"error": line(text)}),
        content_type="application/json",
        headers=PAGE_HEADERS,
    )
