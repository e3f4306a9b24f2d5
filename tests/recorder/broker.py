"""A real MQTT broker (Mosquitto) on loopback, and a web server that takes messages."""

from __future__ import annotations

import contextlib
import math
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_until

__all__ = ["MOSQUITTO", "Broker", "Doorkeeper", "Subscriber", "free_port", "web_server"]

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Broker:
    """Mosquitto, which can be killed and started again on the same port."""

    def __init__(self, folder: Path, settings: str = "allow_anonymous true") -> None:
        if MOSQUITTO is None:
            pytest.skip("mosquitto is not installed")
        self.port = free_port()
        self._file = folder / "mosquitto.conf"
        self._file.write_text(f"listener {self.port} 127.0.0.1\n{settings}\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "mosquitto ended"
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0


class Doorkeeper:
    """Stands in front of a broker: ends connections, and holds back what the broker answers."""

    def __init__(self, port: int) -> None:
        self._broker = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        #: How many connections have sent something.
        self.asked = 0
        #: How many answers still pass; then it waits, or hangs up.
        self._passing = math.inf
        self._hangs_up = False
        self._changed = threading.Condition()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def let_pass(self, answers: float = math.inf, *, then_hang_up: bool = False) -> None:
        with self._changed:
            self._passing, self._hangs_up = answers, then_hang_up
            self._changed.notify_all()

    def end_connections(self, *, tells_broker: bool = True) -> None:
        for client, broker in self._pairs:
            for end in (client, broker) if tells_broker else (client,):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Doorkeeper:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self.let_pass()
        self.end_connections()
        for pair in self._pairs:
            for end in pair:
                end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                broker = socket.create_connection(("127.0.0.1", self._broker))
                self._pairs.append((client, broker))
                for passing in (self._ask, self._answer):
                    threading.Thread(target=passing, args=(client, broker), daemon=True).start()

    def _ask(self, client: socket.socket, broker: socket.socket) -> None:
        is_first = True
        with contextlib.suppress(OSError):  # ended
            while data := client.recv(65536):
                broker.sendall(data)
                self.asked += is_first
                is_first = False

    def _answer(self, client: socket.socket, broker: socket.socket) -> None:
        with contextlib.suppress(OSError):  # ended
            while data := broker.recv(65536):
                with self._changed:
                    self._changed.wait_for(lambda: self._passing > 0)
                    self._passing -= 1
                    is_last = self._hangs_up and not self._passing
                    if is_last:
                        self._passing, self._hangs_up = math.inf, False
                client.sendall(data)
                if is_last:
                    client.close()
                    broker.close()
                    return


class Subscriber:
    """Gets the messages of a topic."""

    def __init__(self, port: int, topic: str, set_up: Callable[[Any], None] | None = None) -> None:
        from paho.mqtt import client as paho

        self.messages: list[bytes] = []
        self.topics: list[str] = []
        self._is_ready = threading.Event()
        self._client = client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.reconnect_delay_set(1, 1)
        if set_up is not None:
            set_up(client)

        def on_connect(*_: Any) -> None:
            client.subscribe(topic, qos=1)

        def on_message(client: Any, data: Any, message: Any) -> None:
            self.topics.append(message.topic)
            self.messages.append(message.payload)

        client.on_connect = on_connect
        client.on_subscribe = lambda *_: self._is_ready.set()
        client.on_message = on_message
        client.connect("127.0.0.1", port)
        client.loop_start()
        self.wait_for_subscription()

    def wait_for_subscription(self) -> None:
        wait_until(self._is_ready.is_set)
        self._is_ready.clear()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def web_server(answer: Callable[[str], int]) -> Iterator[tuple[str, list[tuple[str, bytes]], Any]]:
    """Yield (address, the (idempotency key, body) of what was taken, the server)."""
    taken: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            key = self.headers["Idempotency-Key"]
            self.server.headers = dict(self.headers)  # type: ignore[attr-defined]
            status = answer(key)
            if 200 <= status < 300:
                taken.append((key, body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/frames", taken, server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
