"""Requests to `dgrec view`, from its page and from anybody."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dgrec import sample
from dgrec.serving import PAGE_HEADERS
from tests.factory import make_rows, new_metadata, write_session
from tests.live_clients import get
from tests.replay.viewing.client import Client, served
from tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow

_BIG = 1 << 30
#: What never ends: DuckDB stops it between rows only.
_ENDLESS = "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The sample with its footage, and a session with a video of a gigabyte (of nothing)."""
    folder = tmp_path_factory.mktemp("view")
    shutil.copy(sample.SESSION, folder / "sample.parquet")
    shutil.copy(sample.CLIP, folder / "faces.mp4")
    (folder / "secret.txt").write_text("secret")
    with (folder / "big.mp4").open("wb") as file:
        file.truncate(_BIG)
    entry = {"file": "big.mp4", "kind": "raw", "codec": "h264", "width": 64, "height": 48}
    rows = make_rows(3, video_frame=0)
    write_session(folder / "big.parquet", rows, {**new_metadata("big"), "video": [entry]})
    with served(folder) as client:
        yield client


def lines_of(answer: bytes) -> list[str]:
    return answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")


def test_everything_asks_for_the_token(client: Client) -> None:
    paths = [*client.server.paths, "/nothing", "/api/card?s=sample"]
    assert "/video" in paths
    assert "/" in paths
    for path in paths:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Cookie": f"dgrec-{client.server.port}=wrong"},
            {"Cookie": f"dgrec-{client.server.port + 1}={client.token}"},
        ):
            assert client.ask(path, headers=headers)[0] == 401, (path, headers)
        assert client.ask(path, headers={}, token="wrong")[0] == 401, path
    cookie = {"Cookie": f"dgrec-{client.server.port}={client.token}"}
    assert client.ask("/api/sessions", headers=cookie)[0] == 200
    assert client.ask("/api/sessions", headers={}, token=client.token)[0] == 200


def test_the_token_becomes_a_cookie(client: Client) -> None:
    status, headers, _ = client.ask("/", headers={}, token=client.token)
    assert (status, headers["Location"]) == (303, "/")
    name, *attributes = headers["Set-Cookie"].split("; ")
    assert name == f"dgrec-{client.server.port}={client.token}"
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Strict"]
    status, headers, body = client.ask("/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body.startswith(b"<!doctype html>")


def test_a_browser_is_started_with_a_token_that_is_used_once(client: Client) -> None:
    token = client.server.single_use_url().partition("token=")[2]
    assert token != client.token
    status, headers, _ = client.ask("/", headers={}, token=token)
    assert status == 303
    assert f"={client.token};" in headers["Set-Cookie"]
    assert client.ask("/", headers={}, token=token)[0] == 401
    assert client.ask("/", headers={}, token="")[0] == 401


def test_headers_are_on_every_answer(client: Client) -> None:
    port = client.server.port
    host = f"Host: 127.0.0.1:{port}"
    token = f"Authorization: Bearer {client.token}"
    answers = {
        200: get(port, "/api/sessions", host, token),
        206: get(port, "/video?s=sample&k=0", host, token, "Range: bytes=0-9"),
        303: get(port, f"/?token={client.token}", host),
        400: get(port, "/api/rows?s=sample", host, token),
        401: get(port, "/", host),
        403: get(port, "/", "Host: elsewhere.example", token),
        404: get(port, "/nothing", host, token),
        405: get(port, "/api/sessions", host, token, method="POST"),
        416: get(port, "/video?s=sample&k=0", host, token, "Range: bytes=999999999-"),
        422: get(port, "/api/sessions?where=oops(", host, token),
    }
    for status, (found, answer) in answers.items():
        assert found == status, answer
        lines = lines_of(answer)
        for name, value in PAGE_HEADERS.items():
            if name != "Cache-Control":
                assert f"{name}: {value}" in lines, (status, name)
        assert not any(line.startswith("Access-Control") for line in lines)
    malformed = get(port, "/ /", "no header")
    assert malformed[0] == 400
    assert f"Content-Security-Policy: {PAGE_HEADERS['Content-Security-Policy']}" in lines_of(
        malformed[1]
    )


def test_foreign_pages_get_nothing(client: Client) -> None:
    own = {"Authorization": f"Bearer {client.token}"}
    for headers in (
        {"Host": "elsewhere.example"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},  # of another port
    ):
        assert client.ask("/api/sessions", headers={**own, **headers})[0] == 403, headers
    origin = f"http://127.0.0.1:{client.server.port}"
    assert client.ask("/api/sessions", headers={**own, "Origin": origin})[0] == 200


def test_links_on_foreign_pages_lead_to_the_page_only(client: Client) -> None:
    """Browsers hold its cookie back from these, and send it with what the page asks for."""
    own = {"Authorization": f"Bearer {client.token}"}
    for site in ("cross-site", "same-site"):
        link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
        assert client.ask("/", headers=link, token=client.token)[0] == 303
        assert client.ask("/", headers=link, token="wrong")[0] == 401
        status, headers, body = client.ask("/", headers=link)
        assert (status, headers["Set-Cookie"]) == (200, None)
        assert body == client.ask("/")[2]
        # Any page can make a browser follow a link, so following one must change nothing.
        for path in {*client.server.paths, "/nothing"} - {"/"}:
            assert client.ask(path, headers={**own, **link})[0] == 403, path
        assert client.ask("/", headers={**link, "Sec-Fetch-Mode": "no-cors"})[0] == 403
    typed = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}
    assert client.ask("/", headers=typed)[0] == 401


def test_no_path_leads_elsewhere(client: Client) -> None:
    for path in (
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/static/page.js",
        "//page.js",
        "/page.js/",
        "/./page.js",
        "/PAGE.JS",
        "/secret.txt",
        "/video/../secret.txt",
        "/%70age.js",
    ):
        assert client.ask(path)[0] == 404, path
    for name in ("..", "../secret.txt", "secret.txt", "/etc/passwd", "", ".", "%2e%2e", "\0", "*"):
        for path in ("/api/card", "/video", "/api/rows", "/api/live"):
            assert client.refused(path, s=name, k=0)[0] == 404, (path, name)
    for k, status in (("-1", 404), ("99", 404), ("9" * 5000, 404), ("x", 400), ("", 400)):
        assert client.refused("/video", s="sample", k=k)[0] == status, k


def test_numbers_that_are_none(client: Client) -> None:
    odd = ("NaN", "inf", "-inf", "1e999", "x", "", " ", "0x10", "1e3e", "٣")
    for text in odd:
        for path, query in (
            ("/api/rows", {"from": text, "to": "5"}),
            ("/api/row", {"i": text}),
            ("/api/at", {"frame": text}),
            ("/api/picture", {"i": text}),
        ):
            assert client.refused(path, s="sample", **query)[0] == 400, (path, text)
        if text != "٣":  # Python reads it as 3
            assert client.refused("/api/at", s="sample", t=text)[0] == 400, text
            assert client.refused("/api/series", s="sample", names="fps", **{"from": text})[0]
    large = "9" * 4000
    assert client.json("/api/rows", s="sample", **{"from": large, "to": large})["frame"] == []
    assert client.json("/api/rows", s="sample", **{"from": "-5", "to": "2"})["frame"] == [0, 1]
    assert client.json("/api/rows", s="sample", **{"from": "9", "to": "2"})["frame"] == []
    assert client.json("/api/at", s="sample", t="1e300") == {"i": 419}
    assert client.json("/api/at", s="sample", t="-1e300") == {"i": 0}
    assert client.json("/api/at", s="sample", frame=large) == {"i": 419}
    assert client.refused("/api/row", s="sample", i=large)[0] == 404
    assert client.refused("/api/row", s="sample", i="-1")[0] == 404


def test_ranges_of_a_video(client: Client) -> None:
    data = sample.CLIP.read_bytes()
    own = {"Authorization": f"Bearer {client.token}"}
    _, headers, body = client.ask("/video", s="sample", k=0)
    assert body == data
    assert (headers["Content-Type"], headers["Accept-Ranges"]) == ("video/mp4", "bytes")
    etag, size = headers["ETag"], len(data)

    def ranged(text: str, **more: str) -> tuple[int, str | None, bytes]:
        given = {**own, "Range": text, **{k.replace("_", "-"): v for k, v in more.items()}}
        status, found, body = client.ask("/video", headers=given, s="sample", k=0)
        return status, found["Content-Range"], body

    for text, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=5-14", 5, 14),
        (f"bytes={size - 1}-", size - 1, size - 1),
        ("bytes=-7", size - 7, size - 1),
        (f"bytes=-{size * 2}", 0, size - 1),
        (f"bytes=10-{size * 2}", 10, size - 1),
    ):
        expected = (206, f"bytes {first}-{last}/{size}", data[first : last + 1])
        assert ranged(text) == expected, text
        assert ranged(text, If_Range=etag) == expected, text
        assert ranged(text, If_Range='"other"') == (200, None, data), text
    for text in (f"bytes={size}-", "bytes=-0", f"bytes={'9' * 19}-"):
        assert ranged(text) == (416, f"bytes */{size}", b""), text
    for text in (
        "bytes=2-1",
        "bytes=-",
        "bytes=0-1,3-4",
        "items=0-1",
        "bytes",
        f"bytes={'9' * 40}-",
    ):
        assert ranged(text) == (200, None, data), text
    status, headers, body = client.ask("/video", method="HEAD", headers=own, s="sample", k=0)
    assert (status, headers["Content-Length"], body) == (200, str(size), b"")
    assert client.ask("/video", headers={**own, "If-None-Match": etag}, s="sample", k=0)[0] == 304


def test_another_file_in_the_place_of_a_video_is_not_served(client: Client, tmp_path: Path) -> None:
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    (path,) = {v.path for v in _opened_videos(client, "big")}
    moved = path.with_suffix(".moved")
    path.rename(moved)
    try:
        path.symlink_to(outside)
        status, _, body = client.ask("/video", s="big", k=0)
        assert (status, b"secret" in body) == (404, False)
        path.unlink()
        os.mkfifo(path)
        assert client.ask("/video", s="big", k=0)[0] == 404
    finally:
        path.unlink()
        moved.rename(path)
    wait_until(lambda: client.ask("/video", method="HEAD", s="big", k=0)[0] == 200, pause_s=0.1)


def _opened_videos(client: Client, name: str) -> Any:
    with client.server.recordings.opened(name) as opened:
        return [*opened.videos.all]


def test_a_client_that_does_not_read_a_video(client: Client) -> None:
    """It takes no memory, and holds nobody up."""
    port = client.server.port
    with contextlib.ExitStack() as stack:
        before = _memory()
        for _ in range(20):
            opened = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.sendall(
                f"GET /video?s=big&k=0 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                f"Authorization: Bearer {client.token}\r\n\r\n".encode()
            )
            assert opened.recv(12) == b"HTTP/1.1 200"
        assert client.json("/api/rows", s="big", **{"from": 0, "to": 3})["frame"] == [0, 1, 2]
        assert _memory() - before < 100 << 20


def _memory() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_a_thousand_connections(client: Client) -> None:
    port = client.server.port

    def answers() -> bool:
        with contextlib.suppress(ConnectionError):  # the server has not noticed yet that they left
            return get(port, "/")[0] == 401
        return False

    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
    wait_until(answers)
    assert client.ask("/api/sessions")[0] == 200


def test_sql_ends_with_its_client(tmp_path: Path) -> None:
    """Statements take turns: the next one does not wait for one that nobody waits for."""
    shutil.copy(sample.SESSION, tmp_path / "sample.parquet")
    before = _statement_programs()
    with served(tmp_path) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.server.port)
        target = f"/api/sql?s=sample&q={_ENDLESS.replace(' ', '%20')}"
        connection.request("GET", target, headers={"Authorization": f"Bearer {client.token}"})
        wait_until(lambda: _statement_programs() > before)
        # What reads goes on meanwhile.
        assert client.json("/api/rows", s="sample", **{"from": 0, "to": 2})["frame"] == [0, 1]
        connection.close()
        answer = client.json("/api/sql", s="sample", q="SELECT 42 AS a")
        assert answer["rows"] == [[42]]


def test_sql_reads_the_session_only(client: Client) -> None:
    for text in (
        "SELECT * FROM read_csv('secret.txt')",
        "SELECT * FROM '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "ATTACH 'x.db'",
        "SELECT getenv('HOME')",
        "INSTALL httpfs",
        "SELECT 1; SELECT 2",
        "",
    ):
        answer = client.json("/api/sql", s="sample", q=text)
        assert list(answer) == ["error"], text
    for condition in (
        "1) OR (SELECT count(*) FROM read_text('/etc/passwd')) > (0",
        "getenv('HOME')",
    ):
        assert client.refused("/api/sessions", where=condition)[0] == 422, condition
        assert (
            client.refused("/api/matches", s="sample", q=condition, **{"from": 0, "to": 9})[0]
            == 422
        )
    found = client.json("/api/sessions", where="frames = 420")["sessions"]
    assert [each["s"] for each in found] == ["sample"]


def test_statements_take_no_memory_of_the_server(client: Client) -> None:
    """DuckDB's own limit leaves out what functions build, and they are not interrupted."""
    large = "range(0, 2000000000) IS NOT NULL"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = (
        client.json("/api/sql", s="sample", q=f"SELECT {large}")["error"],
        client.refused("/api/matches", s="sample", q=large, **{"from": 0, "to": 420})[1],
        client.refused("/api/sessions", where=large)[1],
    )
    assert ["allocate" in text or "out of memory" in text for text in refused] == 3 * [True]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_a_process_of_statements_that_was_killed_is_replaced(client: Client) -> None:
    """The kernel ends it first where memory runs out."""
    for _ in range(2):
        assert client.json("/api/sql", s="sample", q="SELECT 42 AS a")["rows"] == [[42]]
        (process,) = filter(_runs_statements, psutil.Process().children())
        process.kill()
        process.wait()


def _statement_programs() -> int:
    return sum(map(_runs_statements, psutil.Process().children()))


def _runs_statements(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):  # what another test has started may just have ended
        return "statement_program" in " ".join(process.cmdline())
    return False


def test_the_end_waits_for_nobody(tmp_path: Path) -> None:
    shutil.copy(sample.SESSION, tmp_path / "sample.parquet")
    before, programs = _servers(), _statement_programs()
    with contextlib.ExitStack() as stack:
        with served(tmp_path) as client:
            for target in ("/api/live?s=sample", f"/api/sql?s=sample&q={_ENDLESS}"):
                connection = stack.enter_context(
                    contextlib.closing(http.client.HTTPConnection("127.0.0.1", client.server.port))
                )
                headers = {"Authorization": f"Bearer {client.token}"}
                connection.request("GET", target.replace(" ", "%20"), headers=headers)
            wait_until(lambda: _statement_programs() > programs)
        wait_until(lambda: _statement_programs() == programs)
    assert _servers() == before


def _servers() -> int:
    return sum(each.name == "dgrec-server" for each in threading.enumerate())
