"""Serving while recording: WebSockets and Server-Sent Events to real clients."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.errors import OutputError
from dgrec.message import Message
from dgrec.publishing import (
    PayloadOptions,
    Target,
    open_target,
    parse_target,
)
from dgrec.recorder.outputs import Metrics, Publisher
from dgrec.replay.publishing import publish
from tests.browser import Browser, needs_chromium
from tests.factory import make_detection, make_rows, write_session
from tests.live_clients import WebSocketClient, connection, get, silent_websocket
from tests.recorder.broker import free_port
from tests.recorder.test_publishing import messages_of, notes_of
from tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture(autouse=True)
def _nothing_is_left(port: int) -> Iterator[None]:
    """No thread, no port and no connection of a server is left after a test."""
    yield
    gc.collect()  # an open connection is a warning, and so an error
    assert not [each.name for each in threading.enumerate() if each.name == "dgrec-server"]
    with pytest.raises(ConnectionRefusedError):
        connection(port)


def opened(text: str, *, waits: bool = False) -> Target:
    return open_target(parse_target(text), {"source": "cam", "session": "s"}, waits=waits)


def record(
    path: Path,
    count: int,
    *targets: Target,
    waits: bool = False,
    pause: Callable[[int], None] = lambda _: None,
) -> Path:
    """Record frames, which are published at the same time."""
    outputs = [Publisher(target, waits=waits) for target in targets]
    with dgrec.Recorder(path, outputs=outputs) as recorder:
        for index in range(count):
            recorder.add([make_detection(index)])
            pause(index)
    return path


# --- everything arrives ---


def test_ten_thousand_frames_arrive_once_and_in_order(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine these clients, threads of this process, can read nothing for some seconds.
    monkeypatch.setattr("dgrec.serving.channel._STALLED_S", PATIENCE_S)
    monkeypatch.setattr("dgrec.publishing.served._PATIENCE_S", PATIENCE_S)
    target = opened(f"ws://127.0.0.1:{port}", waits=True)
    with (
        WebSocketClient(f"ws://127.0.0.1:{port}/ws") as first,
        WebSocketClient(f"ws://localhost:{port}/ws") as second,
    ):
        path = record(tmp_path / "s.parquet", 10_000, target, waits=True)
    expected = messages_of(path)
    assert len(expected) == 10_000
    for client in (first, second):
        assert len(client.messages) == 10_000
        is_same = client.messages == expected  # a difference of this many would take minutes
        assert is_same
    assert (first.close_code, second.close_code) == (1001, 1001)
    assert notes_of(path) == []


def test_a_late_client_gets_the_last_message_at_once(tmp_path: Path, port: int) -> None:
    late: list[WebSocketClient] = []

    def pause(index: int) -> None:
        if index == 49:
            wait_until(lambda: target.delivered == 50)
            late.append(WebSocketClient(f"ws://127.0.0.1:{port}/ws").wait_for(1))

    target = opened(f"ws://127.0.0.1:{port}")
    path = record(tmp_path / "s.parquet", 60, target, pause=pause)
    assert late[0].wait_for_end().messages == messages_of(path)[49:]


def test_several_sources_share_an_address(tmp_path: Path, port: int) -> None:
    """A client gets the messages of both; one that comes late, the last of each."""
    targets = [opened(f"ws://127.0.0.1:{port}") for _ in range(2)]
    with WebSocketClient(f"ws://127.0.0.1:{port}/ws") as client:
        targets[0].send(Message("a-1", b"a1"))
        targets[1].send(Message("b-1", b"b1"))
        targets[0].send(Message("a-2", b"a2"))
        late = WebSocketClient(f"ws://127.0.0.1:{port}/ws").wait_for(2)
        targets[0].close()
        targets[1].send(Message("b-2", b"b2"))
        targets[1].close()
    assert client.messages == [b"a1", b"b1", b"a2", b"b2"]
    assert sorted(late.wait_for_end().messages) == [b"a2", b"b1", b"b2"]


def test_a_late_client_gets_what_is_there(tmp_path: Path, port: int) -> None:
    """The last frame, alerts that go on, and tracks that have not ended: each once, in order."""
    target = opened(f"ws://127.0.0.1:{port}")
    with WebSocketClient(f"ws://127.0.0.1:{port}/ws") as client:
        sent = [
            Message("1", b"frame 1"),
            Message("2", b"crowd starts", "alert", "crowd"),
            Message("3", b"slow starts", "alert", "slow"),
            Message("4", b"track 1 starts", of="track 1"),
            Message("5", b"track 2 starts", of="track 2"),
            Message("6", b"crowd ends", "alert", "crowd", ends=True),
            Message("7", b"frame 2"),
            Message("8", b"track 1 changes", of="track 1"),
            Message("9", b"track 2 ends", of="track 2", ends=True),
        ]
        for message in sent:
            target.send(message)
        late = WebSocketClient(f"ws://127.0.0.1:{port}/ws").wait_for(3)
        target.close()
    assert client.messages == [message.text for message in sent]
    assert late.wait_for_end().messages == [b"slow starts", b"frame 2", b"track 1 changes"]


def test_alerts_are_events_of_their_own_kind(tmp_path: Path, port: int) -> None:
    target = opened(f"sse://127.0.0.1:{port}")
    with connection(port) as events:
        events.sendall(f"GET /sse HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        target.wait_for_client()
        target.send(Message("1", b"{}", "alert", "crowd"))
        target.send(Message("2", b"{}"))
        target.close()
        answer = b""
        while part := events.recv(4096):
            answer += part
    assert b"id: 1\nevent: alert\ndata: {}\n\n" in answer
    assert b"id: 2\ndata: {}\n\n" in answer


def test_websockets_and_events_on_one_port(tmp_path: Path, port: int) -> None:
    one, other = opened(f"ws://127.0.0.1:{port}/{{source}}"), opened(f"sse://127.0.0.1:{port}")
    with WebSocketClient(f"ws://127.0.0.1:{port}/cam") as client:
        one.send(Message("1", b"1"))
        other.send(Message("2", b"2"))
        with connection(port) as events:
            events.sendall(f"GET /sse HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
            answer = b""
            while b"data: 2\n\n" not in answer:
                answer += events.recv(4096)
        assert b"retry: 2000\n\n" in answer
        assert b"id: 2\ndata: 2\n\n" in answer
        assert b"Content-Type: text/event-stream; charset=utf-8\r\n" in answer
        assert b"Access-Control" not in answer
        assert get(port, "/ws")[0] == 404
        assert get(port, "/cam")[0] == 426
        with pytest.raises(OutputError, match="/cam is served already"):
            opened(f"sse://127.0.0.1:{port}/cam")
        other.close()
        one.close()
    assert client.messages == [b"1"]


# --- a browser ---


@needs_chromium
def test_an_event_source_of_a_browser(tmp_path: Path, port: int) -> None:
    """It connects again by itself, and goes on where it was."""
    script = """
        window.got = []; window.opened = 0;
        window.source = new EventSource('/sse');
        source.onopen = () => { opened += 1; };
        source.onmessage = event => { got.push([event.lastEventId, event.data]); };
    """
    target = opened(f"sse://127.0.0.1:{port}", waits=True)
    with Browser(tmp_path / "browser") as browser:
        browser.call("Page.navigate", url=f"http://localhost:{port}/")
        browser.wait_for(f"document.readyState === 'complete' && location.port === '{port}'")
        browser.run(script + "null")
        browser.wait_for("opened === 1")
        path = record(tmp_path / "s.parquet", 2_000, target, waits=True)
        browser.wait_for("got.length === 2000")
        got = browser.run("got")
        assert [text.encode() for _, text in got] == messages_of(path)
        assert len({key for key, _ in got}) == 2_000
        # The recording has ended. Another one on the same port:
        browser.wait_for("source.readyState === EventSource.CONNECTING")
        again = opened(f"sse://127.0.0.1:{port}")
        browser.wait_for("opened === 2")
        again.send(Message("another-1", b"more"))
        browser.wait_for("got.length === 2001")
        assert browser.run("got[2000]") == ["another-1", "more"]
        browser.run("source.close()")
        again.close()


@needs_chromium
def test_a_page_of_another_origin(tmp_path: Path, port: int) -> None:
    """It gets nothing, unless its origin was named."""
    connect = """new Promise(done => {
        const source = new EventSource('http://127.0.0.1:%d/sse');
        source.onmessage = event => { source.close(); done(event.data); };
        source.onerror = () => { source.close(); done('refused'); };
    })"""
    own = free_port()
    page = opened(f"sse://127.0.0.1:{own}/page")  # only for its origin
    with Browser(tmp_path / "browser") as browser:
        browser.call("Page.navigate", url=f"http://localhost:{own}/")
        browser.wait_for(f"document.readyState === 'complete' && location.port === '{own}'")
        with opened(f"sse://127.0.0.1:{port}") as target:
            target.send(Message("1", b"found"))
            assert browser.run(connect % port) == "refused"
        with opened(f"sse://127.0.0.1:{port}?origin=http://localhost:{own}") as target:
            target.send(Message("1", b"found"))
            assert browser.run(connect % port) == "found"
    page.close()


def test_events_go_on_where_a_client_was(port: int) -> None:
    with opened(f"sse://127.0.0.1:{port}") as target:
        for number in range(5):
            target.send(Message(f"key-{number}", b"message %d" % number))
        with connection(port) as events:
            headers = f"Host: localhost:{port}\r\nLast-Event-ID: key-2"
            events.sendall(f"GET /sse HTTP/1.1\r\n{headers}\r\n\r\n".encode())
            answer = b""
            while b"data: message 4\n\n" not in answer:
                answer += events.recv(4096)
        assert b"message 2" not in answer
        assert b"id: key-3\ndata: message 3\n\n" in answer


# --- slow clients ---


def test_a_client_that_never_reads_beside_a_healthy_one(tmp_path: Path, port: int) -> None:
    target = opened(f"ws://127.0.0.1:{port}")
    message = [make_detection(0, text="x" * 20_000)]
    with (
        silent_websocket(port),
        WebSocketClient(f"ws://127.0.0.1:{port}/ws") as healthy,
        dgrec.Recorder(
            tmp_path / "s.parquet", outputs=[Publisher(target, PayloadOptions(form="full"))]
        ) as recorder,
    ):
        for index in range(3_000):
            recorder.add(message)
            if index % 50 == 49:  # at the pace of the healthy one
                healthy.wait_for(index + 1)
    assert len(healthy.messages) == 3_000
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert len(session) == 3_000
        notes = session.metadata["notes"]
    assert len(notes) == 1
    lost = int(notes[0].split(" messages left out")[0].split()[-1].replace(",", ""))
    assert notes[0] == (
        f"ws://127.0.0.1:{port}: 1 client read too slowly: {lost:,} messages left out"
    )
    # Of 60 MB it got what the kernel's buffers hold.
    assert 2_000 < lost < 3_000


def test_waiting_for_clients_ends_with_one_that_reads_nothing(tmp_path: Path, port: int) -> None:
    target = opened(f"ws://127.0.0.1:{port}", waits=True)
    text = b"x" * 20_000
    with silent_websocket(port):
        target.wait_for_client()
        for index in range(2_000):
            target.send(Message(str(index), text))
        with pytest.raises(OutputError, match=r"1 client read too slowly: .* messages left out"):
            target.close()


# --- who may not ---


def test_foreign_pages_are_refused(port: int) -> None:
    own = f"Host: 127.0.0.1:{port}"
    with opened(f"sse://127.0.0.1:{port}") as target:
        target.send(Message("1", b"secret"))
        refused = [
            (f"Host: evil.example:{port}",),
            ("Host: 192.168.1.5",),
            ("Host: localhost.evil.example",),
            ("Host: localhost@evil.example",),
            ("Host: ",),
            (own, "Host: evil.example"),
            (own, "Origin: http://evil.example"),
            (own, "Origin: null"),
            (own, f"Origin: http://127.0.0.1:{port + 1}"),
            (own, f"Origin: http://localhost:{port}"),
            (own, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"),
        ]
        for headers in refused:
            status, answer = get(port, "/sse", *headers)
            assert status in (400, 403), headers
            assert b"secret" not in answer
        upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Origin: http://evil.example")
        assert get(port, "/sse", own, *upgrade)[0] == 403


def test_names_of_sources_in_paths(port: int) -> None:
    names = {"source": "gate (east)@2 ü\udcff", "session": "s"}
    with open_target(parse_target(f"sse://127.0.0.1:{port}/{{source}}"), names):
        path = "/gate%20(east)@2%20%C3%BC%FF"  # as browsers write it
        assert get(port, path, f"Host: localhost:{port}", method="HEAD")[0] == 200


def test_tricks_with_paths_and_methods(port: int) -> None:
    with opened(f"sse://127.0.0.1:{port}"):
        for path in (
            *("/", "/..", "/sse/", "//sse", "/./sse", "/x/../sse", "/%73se", "/SSE", "/sse%00"),
            *("/../../etc/passwd", "/%2e%2e/etc/passwd", "/sse;x", "http://evil.example/sse", "*"),
        ):
            status, answer = get(port, path)
            assert status in (400, 404), path
            assert b"root:" not in answer
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            assert get(port, "/sse", method=method)[0] == 405
        assert get(port, "/sse", f"Host: localhost:{port}", f"X: {'y' * 100_000}")[0] == 400
        with connection(port) as junk:
            junk.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100))
            assert junk.recv(12) in (b"HTTP/1.1 400", b"HTTP/1.0 400")


def test_odd_requests(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is answered, and refused; none is an error of the server."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\udcff"
    upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", key)
    host = f"Host: localhost:{port}"
    with opened(f"ws://127.0.0.1:{port}"), opened(f"sse://127.0.0.1:{port}") as target:
        target.send(Message("1", b"1"))
        status, answer = get(port, "/sse", host, method="HEAD")
        assert (status, answer.partition(b"\r\n\r\n")[2]) == (200, b"")
        assert get(port, "/ws", host, *upgrade)[0] == 426
        for path in ("<script>", "/ HTTP/9.9\r\nX: \0", "/" + "x" * 100_000):
            status, answer = get(port, path, host)
            assert status == 400
            assert b"\r\nServer: dgrec\r\n" in answer
            assert b"\r\nX-Content-Type-Options: nosniff\r\n" in answer
    monkeypatch.setenv("DGREC_TOKEN", " t\u00f6k\udcff ")
    with opened(f"ws://127.0.0.1:{port}"):
        assert get(port, "/ws", host, "Authorization: Bearer t\u00f6k\udcff")[0] == 426
        assert get(port, "/ws", host, "Authorization: Bearer \udcff\udcfe")[0] == 401
        assert get(port, "/ws?token=%FF", host)[0] == 401


def test_clients_that_take_no_answers_are_closed(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many requests they have sent, others find a place."""
    monkeypatch.setattr("dgrec.serving.server._UNTAKEN_S", 0.5)
    monkeypatch.setattr("dgrec.serving.server._MOST_CONNECTIONS", 2)
    request = f"GET /metrics HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
    with contextlib.closing(Metrics(str(port), "cam")), contextlib.ExitStack() as stack:
        for _ in range(2):
            greedy = stack.enter_context(connection(port))
            greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            greedy.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    greedy.sendall(request * 100)
        wait_until(lambda: get(port, "/metrics")[0] == 503)
        wait_until(lambda: get(port, "/metrics")[0] == 200)


def test_clients_that_come_in_the_moment_of_the_end(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """They are served or refused, and none waits for ever."""
    ended = threading.Event()
    answers = itertools.count()
    answered = [0]

    def ask() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError, IndexError):  # refused, or closed without an answer
                get(port, "/metrics")
                answered[0] = next(answers)

    clients = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for _ in range(15):
            with contextlib.closing(Metrics(str(port), "cam")):
                before = answered[0]
                wait_until(lambda before=before: answered[0] > before + 4)  # type: ignore[misc]
    finally:
        ended.set()
    for client in clients:
        client.join(PATIENCE_S)
    assert not any(client.is_alive() for client in clients)
    assert [each.getMessage() for each in caplog.records if each.name == "asyncio"] == []


def test_connections_that_ask_nothing_are_closed(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else 64 of them would keep out everybody."""
    monkeypatch.setattr("dgrec.serving.server._KEEPALIVE_S", 0.2)
    with opened(f"sse://127.0.0.1:{port}") as target:
        for begin in (b"", b"GET /sse HTTP/1.1\r\nHost: local"):
            with connection(port) as silent:
                silent.sendall(begin)
                assert silent.recv(1) == b""
        # But not one that waits for messages.
        with connection(port) as events:
            events.sendall(f"GET /sse HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
            target.wait_for_client()
            with connection(port) as silent:  # connected later, and closed before
                assert silent.recv(1) == b""
            target.send(Message("1", b"found"))
            answer = b""
            while b"data: found\n\n" not in answer:
                part = events.recv(4096)
                assert part
                answer += part


@pytest.fixture
def public_port(monkeypatch: pytest.MonkeyPatch, port: int) -> int:
    monkeypatch.delenv("DGREC_TOKEN", raising=False)
    return port


def test_other_addresses_need_a_token(public_port: int, capfd: pytest.CaptureFixture[str]) -> None:
    with opened(f"sse://0.0.0.0:{public_port}"):
        target = opened(f"ws://0.0.0.0:{public_port}")
        said = capfd.readouterr().err
        assert said.count("\n") == 1  # once for both
        token = said.partition("this token: ")[2].split()[0]
        assert len(token) >= 32
        assert get(public_port, "/ws")[0] == 401
        assert get(public_port, "/ws?token=")[0] == 401
        assert get(public_port, f"/ws?token={token[:-1]}")[0] == 401
        host = f"Host: 127.0.0.1:{public_port}"
        assert get(public_port, "/ws", host, "Authorization: Bearer wrong")[0] == 401
        assert get(public_port, "/ws", host, f"Authorization: Bearer {token}")[0] == 426
        assert get(public_port, f"/ws?token={token}")[0] == 426
        assert get(public_port, "/ws?token=%FF%00", host)[0] == 401
        # The name of another machine that leads here.
        assert get(public_port, f"/ws?token={token}", "Host: evil.example")[0] == 403
        with WebSocketClient(
            f"ws://127.0.0.1:{public_port}/ws", headers={"Authorization": f"Bearer {token}"}
        ) as client:
            target.send(Message("1", b"found"))
            client.wait_for(1)
            target.close()


def test_a_token_of_ones_own(
    public_port: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DGREC_TOKEN", "wörd of mine")
    with opened(f"sse://127.0.0.1:{public_port}/x"), opened(f"ws://127.0.0.1:{public_port}"):
        assert get(public_port, "/ws")[0] == 401
        assert get(public_port, "/ws?token=w%C3%B6rd%20of%20mine")[0] == 426
    assert capfd.readouterr().err == ""


def test_a_thousand_connections_at_once(tmp_path: Path, port: int) -> None:
    target = opened(f"ws://127.0.0.1:{port}", waits=True)
    many: list[socket.socket] = []
    statuses = set()
    try:
        with WebSocketClient(f"ws://127.0.0.1:{port}/ws") as client:

            def pause(index: int) -> None:
                if index == 10:
                    many.extend(connection(port) for _ in range(1_000))

            path = record(tmp_path / "s.parquet", 200, target, waits=True, pause=pause)
        for each in many:
            try:
                statuses.add(each.recv(12))
            except ConnectionResetError:
                statuses.add(b"")
    finally:
        for each in many:
            each.close()
    assert client.messages == messages_of(path)
    assert len(client.messages) == 200
    assert statuses == {b"", b"HTTP/1.1 503"}
    assert notes_of(path) == []


# --- the end ---


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_in_use_is_one_line(tmp_path: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        command = [sys.executable, "-m", "dgrec", "record", "--publish", f"ws://127.0.0.1:{port}"]
        done = subprocess.run(
            [*command, "--source", "sample", "--output", tmp_path / "s.parquet", "--quiet"],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"Error: --publish ws://127.0.0.1:{port}: 127.0.0.1:{port}: the port is in use by another "
        "program; choose another port"
    )
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_by_a_signal(tmp_path: Path, port: int, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "dgrec", "record", "--publish", f"ws://127.0.0.1:{port}"]
    running = subprocess.Popen(
        [*command, "--source", "sample", "--loop", "--output", tmp_path / "s.parquet", "--quiet"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: _answers(port), process=running)
        client = WebSocketClient(f"ws://127.0.0.1:{port}/ws").wait_for(3)
        running.send_signal(number)
        client.wait_for_end()
        running.communicate()
    finally:
        running.kill()
        running.wait()
    if number == signal.SIGKILL:
        return
    assert client.close_code == 1001
    assert client.messages[-1] == messages_of(tmp_path / "s.parquet")[-1]
    assert notes_of(tmp_path / "s.parquet") == []


def test_publishing_a_session_waits_for_the_first_client(tmp_path: Path, port: int) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(3_000))
    counts: list[Any] = []

    def send() -> None:
        with dgrec.open(path) as session:
            counts.extend(publish(session, [parse_target(f"ws://127.0.0.1:{port}")], speed=None))

    thread = threading.Thread(target=send)
    thread.start()
    wait_until(lambda: _answers(port))
    with WebSocketClient(f"ws://127.0.0.1:{port}/ws") as client:
        pass
    thread.join()
    assert counts == [3_000]
    assert client.messages == messages_of(path)
    assert json.loads(client.messages[0])["detections"]


_FEW_FILES = """
import os, resource, sys
from dgrec.publishing import open_target, parse_target
target = open_target(parse_target(sys.argv[1]), {})
most = len(os.listdir("/proc/self/fd")) - 1 + 20
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
print(most, flush=True)
sys.stdin.readline()
target.close()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc/self/fd")
def test_without_file_descriptors_nothing_is_printed(port: int, tmp_path: Path) -> None:
    """asyncio printed a traceback for each connection that it could not accept, 200 a second."""
    printed = tmp_path / "printed"
    with printed.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", _FEW_FILES, f"ws://127.0.0.1:{port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    most = int(process.stdout.readline())
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connection(port))
        files = Path(f"/proc/{process.pid}/fd")
        wait_until(lambda: len(list(files.iterdir())) >= most, process=process)
    assert get(port, "/nothing")[0] == 404  # it goes on
    process.communicate("\n", timeout=PATIENCE_S)
    assert process.returncode == 0
    assert printed.read_text() == ""
