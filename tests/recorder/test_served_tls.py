"""TLS of what dgrec serves: real clients, and connections that never finish their handshake."""

from __future__ import annotations

import gc
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import dgrec
from dgrec.errors import ConfigError, OutputError
from dgrec.message import Message
from dgrec.publishing import Target, open_target, parse_target
from dgrec.recorder.outputs import Metrics, Publisher
from tests.factory import make_detection
from tests.live_clients import WebSocketClient, connection
from tests.recorder.broker import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost".split(),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture
def trusting(files: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files[0]))


@pytest.fixture
def port() -> Iterator[int]:
    port = free_port()
    yield port
    gc.collect()  # an open connection is a warning, and so an error
    assert not [each.name for each in threading.enumerate() if each.name == "dgrec-server"]
    with pytest.raises(ConnectionRefusedError):
        connection(port)


def query(files: tuple[Path, Path]) -> str:
    return f"cert={files[0]}&key={files[1]}"


def opened(text: str) -> Target:
    return open_target(parse_target(text), {"source": "cam", "session": "s"}, waits=True)


def test_websockets_events_and_metrics(
    tmp_path: Path, files: tuple[Path, Path], trusting: ssl.SSLContext, port: int
) -> None:
    """On one port, to clients that check the certificate."""
    sockets = opened(f"ws://127.0.0.1:{port}?{query(files)}")
    events = opened(f"sse://127.0.0.1:{port}?{query(files)}")
    metrics = Metrics(f"{port}?{query(files)}", "cam")
    with (
        connection(port) as plain,
        trusting.wrap_socket(connection(port), server_hostname="localhost") as stream,
    ):
        stream.sendall(f"GET /sse HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        events.wait_for_client()
        with WebSocketClient(f"wss://localhost:{port}/ws", ssl=trusting) as client:
            publishers = [Publisher(target, waits=True) for target in (sockets, events)]
            with dgrec.Recorder(tmp_path / "s.parquet", outputs=[*publishers, metrics]) as recorder:
                for index in range(200):
                    recorder.add([make_detection(index)])
                wait_until(lambda: len(client.messages) == 200)
                url = f"https://127.0.0.1:{port}/metrics"
                with urllib.request.urlopen(url, context=trusting) as answer:
                    assert b"dgrec_published_messages_total{" in answer.read()
                # Who does not speak TLS gets nothing.
                plain.sendall(f"GET /sse HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
                assert b"timestamp" not in plain.recv(4096)
        received = b""
        while part := stream.recv(65536):
            received += part
    assert received.count(b"\ndata: {") == 200
    with dgrec.open(tmp_path / "s.parquet") as session:
        assert "notes" not in session.metadata


def test_a_client_that_does_not_trust_the_certificate(files: tuple[Path, Path], port: int) -> None:
    with opened(f"ws://127.0.0.1:{port}?{query(files)}") as target:
        client = WebSocketClient(f"wss://127.0.0.1:{port}/ws")
        wait_until(lambda: client.error is not None)
        assert "CERTIFICATE_VERIFY_FAILED" in str(client.error)
        target.send(Message("1", b"{}"))


def test_handshakes_that_never_end(
    files: tuple[Path, Path], trusting: ssl.SSLContext, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are bounded like connections, end after a while, and hold nobody up for longer."""
    from dgrec.serving import server, tls

    monkeypatch.setattr(tls, "_HANDSHAKE_S", 0.5)
    target = opened(f"ws://127.0.0.1:{port}?{query(files)}")
    silent = [connection(port) for _ in range(200)]
    try:
        (running,) = server._servers.values()
        wait_until(lambda: len(running._handshakes) == server._MOST_CONNECTIONS)
        wait_until(lambda: not running._handshakes)
        with WebSocketClient(f"wss://127.0.0.1:{port}/ws", ssl=trusting) as client:
            target.send(Message("1", b"{}"))
            target.close()
        assert client.messages == [b"{}"]
    finally:
        for each in silent:
            each.close()


def test_clients_that_come_in_the_moment_of_the_end(
    files: tuple[Path, Path], port: int, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(20):
        tls = f"?{query(files)}" if number % 2 else ""
        target = opened(f"ws://127.0.0.1:{port}{tls}")
        with connection(port):
            target.close()
        gc.collect()
    assert caplog.text == ""  # asyncio prints what it cannot make a connection of


def test_one_address_has_one_certificate(files: tuple[Path, Path], port: int) -> None:
    with opened(f"ws://127.0.0.1:{port}?{query(files)}"):
        with pytest.raises(OutputError, match="with another certificate, or without one"):
            opened(f"sse://127.0.0.1:{port}")
        with pytest.raises(OutputError, match=f"--metrics {port}: .* another certificate"):
            Metrics(str(port), "cam")


@pytest.mark.parametrize("which", ["missing", "no key", "not a certificate", "encrypted"])
def test_certificates_that_cannot_be_used(
    tmp_path: Path, files: tuple[Path, Path], which: str
) -> None:
    certificate, key = files
    text = {
        "missing": "cert=/missing.pem",
        "no key": f"cert={certificate}",
        "not a certificate": f"cert={key}&key={key}",
        "encrypted": f"cert={certificate}&key={tmp_path / 'key.pem'}",
    }[which]
    if which == "encrypted":
        command = f"openssl rsa -aes256 -passout pass:word -in {key} -out {tmp_path / 'key.pem'}"
        subprocess.run(command.split(), check=True, capture_output=True)
    port = free_port()
    for open_ in (
        lambda: opened(f"ws://127.0.0.1:{port}?{text}"),
        lambda: Metrics(f"{port}?{text}", "cam"),
    ):
        with pytest.raises(ConfigError, match="certificate ") as caught:
            open_()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["ws://h:1?key=k", "ws://h:1?cert=&key=k", "ws://h:1?ca=c"])
def test_options_that_make_no_certificate(text: str) -> None:
    with pytest.raises(ConfigError, match=r"key belongs to cert|is not an option"):
        parse_target(text)
    with pytest.raises(ConfigError, match=r"expected \?cert=FILE&key=FILE"):
        Metrics("9100?" + text.partition("?")[2].replace("cert=&", ""), "cam")
