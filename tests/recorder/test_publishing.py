"""Publishing to real brokers and web servers: everything arrives once, in order, or is counted."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import re
import select
import socket
import subprocess
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import dgrec
from dgrec.credentials import redact_text
from dgrec.errors import ConfigError, OutputError, StorageError
from dgrec.message import Message
from dgrec.publishing import Device, PublishedFrame, Target, http, mqtt, open_target, parse_target
from dgrec.publishing.payload import message_of
from dgrec.recorder.outputs import Publisher, output
from dgrec.recorder.publishing import PublishRequest
from dgrec.replay.publishing import publish
from tests.factory import make_detection, make_row, make_rows, write_session
from tests.recorder.broker import Broker, Doorkeeper, Subscriber, free_port, web_server
from tests.waiting import PATIENCE_S, wait_until
from tests.web_server import serving

SCHEMAS = Path(__file__).parents[2] / "docs" / "payloads"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as running:
        yield running


def record(
    path: Path, count: int, *targets: str, pause: Callable[[int], None] | None = None
) -> Path:
    """Record frames, which are published at the same time."""
    outputs = [Publisher(open_target(parse_target(text), {"source": "cam"})) for text in targets]
    with dgrec.Recorder(path, outputs=outputs) as recorder:
        for index in range(count):
            recorder.add([make_detection(index)])
            if pause is not None:
                pause(index)
    return path


def messages_of(path: Path) -> list[bytes]:
    """Return what is published of a session."""
    with dgrec.open(path) as session:
        return [message_of(PublishedFrame.of_recorded(each.row, session.id)) for each in session]


def notes_of(path: Path) -> list[str]:
    with dgrec.open(path) as session:
        return list(session.metadata.get("notes", []))


# --- what is sent ---

VALUES: list[Any] = [
    [make_detection(1), make_detection(2, track_id=5)],
    [make_detection(1, score=math.nan, bbox=[0.0, math.inf, np.float32(2.5), -math.inf])],
    [make_detection(1, score=np.float64(0.1), bbox=np.array([1.0, 2.0, 3.0, 4.0]))],
    [make_detection(1, score=np.longdouble(0.1), bbox=np.array([1, 2, 3, 4], np.longdouble))],
    [make_detection(1, mask={"x_min": 1, "y_min": 2, "data": np.ones((3, 4), np.float32)})],
    [make_detection(1, when={"a": (1, 2), "b": {3}, "c": None, "d": True})],
    [],
    {"a": "dictionary"},
    [{"data": np.zeros((4, 4), np.int64)}],
]


@pytest.mark.parametrize("results", VALUES)
@pytest.mark.parametrize("form", ["guide", "full"])
def test_live_and_recorded_are_the_same_bytes(tmp_path: Path, results: Any, form: Any) -> None:
    row = make_row(
        3, results, attributes={"zone_counts": {"door": np.int64(2)}, "tags": {"b", "a"}}
    )
    path = write_session(tmp_path / "s.parquet", [row])
    with dgrec.open(path) as session:
        recorded = PublishedFrame.of_recorded(session[0].row, "s")
    live = message_of(PublishedFrame.of_row(row, "s"), form)
    assert live == message_of(recorded, form)
    schema = json.loads((SCHEMAS / f"{form}.schema.json").read_text())
    jsonschema.validate(json.loads(live), schema)


def test_the_full_payload_has_the_row(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(3))
    with dgrec.open(path) as session:
        row = session[2].row
        message = json.loads(message_of(PublishedFrame.of_recorded(row, session.id), "full"))
        assert message["session"] == session.id
    for name in ("source_frame", "media_time_s", "latency_ms", "inference_ms", "width", "height"):
        assert message[name] == row[name]
    assert message["detections"] == session[2].results


# --- brokers ---


@pytest.mark.slow
def test_everything_arrives_once_and_in_order(tmp_path: Path, broker: Broker) -> None:
    address = f"mqtt://127.0.0.1:{broker.port}/cams/{{source}}/found"
    with Subscriber(broker.port, "cams/+/found") as subscriber:
        path = record(tmp_path / "s.parquet", 1000, address)
        wait_until(lambda: len(subscriber.messages) >= 1000)
        assert subscriber.messages == messages_of(path)
        assert {*subscriber.topics} == {"cams/cam/found"}
        assert notes_of(path) == []
        # Later, from the session: the same bytes.
        del subscriber.messages[:]
        with dgrec.open(path) as session:
            assert publish(session, [parse_target(address)], speed=None) == [1000]
        wait_until(lambda: len(subscriber.messages) >= 1000)
        assert subscriber.messages == messages_of(path)


@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back(tmp_path: Path, broker: Broker) -> None:
    """What it had confirmed is its own; the rest arrives in order when it is back."""
    address = f"mqtt://127.0.0.1:{broker.port}/found"
    arrived: list[bytes] = []
    before = 0
    with Subscriber(broker.port, "found") as subscriber:

        def pause(index: int) -> None:
            nonlocal before
            if index == 300:
                wait_until(lambda: len(subscriber.messages) >= 200)
                broker.kill()
            if index == 360:
                broker.start()
                subscriber.wait_for_subscription()
                before = len(subscriber.messages)
            if index == 500:  # it has connected again
                wait_until(lambda: len(subscriber.messages) > before)

        path = record(tmp_path / "s.parquet", 600, address, pause=pause)
        expected = messages_of(path)
        wait_until(lambda: expected[-1] in subscriber.messages)
        arrived = list(subscriber.messages)
    assert notes_of(path) == []
    order = {message: index for index, message in enumerate(expected)}
    # Those that it had confirmed and not passed on when it was killed are lost in it; a message
    # whose confirmation was lost is sent again (QoS 1).
    numbers = list(dict.fromkeys(order[message] for message in arrived))
    assert numbers == sorted(numbers)
    assert set(range(361, 600)) <= {*numbers}


@pytest.mark.slow
@pytest.mark.parametrize("qos", [0, 1])
def test_messages_keep_their_order_while_a_connection_begins(broker: Broker, qos: int) -> None:
    """A broker that answers late: what was kept before is sent first."""
    with Subscriber(broker.port, "found") as subscriber, Doorkeeper(broker.port) as door:
        target = open_target(parse_target(f"mqtt://127.0.0.1:{door.port}/found?qos={qos}"), {})

        def send(*numbers: int) -> None:
            for number in numbers:
                target.send(Message(f"key-{number}", b"%d" % number))

        send(*range(5))
        wait_until(lambda: len(subscriber.messages) == 5)
        door.let_pass(0)
        door.end_connections()
        sender = threading.Thread(target=send, args=range(5, 10))
        sender.start()
        if qos:  # without confirmations it waits for the connection
            sender.join()
        wait_until(lambda: door.asked == 2)  # paho has connected, and knows no answer yet
        more = threading.Thread(target=lambda: (sender.join(), send(*range(10, 15))))
        more.start()
        if qos:
            more.join()
        door.let_pass()
        more.join()
        wait_until(lambda: b"14" in subscriber.messages)
        target.close()
    assert list(dict.fromkeys(subscriber.messages)) == [b"%d" % number for number in range(15)]


@pytest.mark.slow
def test_a_connection_that_ends_as_soon_as_it_has_begun(broker: Broker) -> None:
    """Where paho is in the middle of sending what it kept, nothing can be given to it."""
    with Subscriber(broker.port, "found") as subscriber, Doorkeeper(broker.port) as door:
        target = open_target(parse_target(f"mqtt://127.0.0.1:{door.port}/found"), {})
        target.send(Message("key-0", b"0"))
        wait_until(lambda: len(subscriber.messages) == 1)
        door.let_pass(0)
        for number in range(1, 5):  # which paho keeps
            target.send(Message(f"key-{number}", b"%d" % number))
        door.end_connections()
        wait_until(lambda: door.asked == 2)
        for number in range(5, 9):
            target.send(Message(f"key-{number}", b"%d" % number))
        door.let_pass(1, then_hang_up=True)
        wait_until(lambda: b"8" in subscriber.messages)
        target.close()
    assert list(dict.fromkeys(subscriber.messages)) == [b"%d" % number for number in range(9)]


@pytest.mark.slow
def test_the_state_of_an_alert_is_the_newest_one_however_a_connection_began(broker: Broker) -> None:
    device = Device("cam", "model", ("crowd",))
    topic = device.alert_topics("found")["crowd"]

    def alert(*, ends: bool) -> Message:
        return Message(f"alert-{ends}", b"{}", "alert", "crowd", ends)

    with Doorkeeper(broker.port) as door:
        address = parse_target(f"mqtt://127.0.0.1:{door.port}/found")
        target = open_target(address, {}, device=device)
        with Subscriber(broker.port, topic) as states:
            wait_until(lambda: states.messages == [b"OFF"])
            target.send(Message("key-0", b"0"))
            wait_until(lambda: target.delivered == 1)
            door.let_pass(0)
            target.send(alert(ends=False))
            wait_until(lambda: states.messages[-1] == b"ON")  # but paho does not know
            door.end_connections()
            wait_until(lambda: door.asked == 2)
            target.send(alert(ends=True))
            door.let_pass()
            wait_until(lambda: target.delivered == 3)
            target.close()
        with Subscriber(broker.port, topic) as after:
            wait_until(lambda: bool(after.messages))
    assert after.messages[-1] == b"OFF"


@pytest.mark.slow
def test_a_connection_that_the_broker_takes_for_alive_does_not_say_offline_later(
    broker: Broker,
) -> None:
    with Subscriber(broker.port, "found/status") as states, Doorkeeper(broker.port) as door:
        target = open_target(parse_target(f"mqtt://127.0.0.1:{door.port}/found"), {})
        wait_until(lambda: states.messages == [b"online"])
        door.end_connections(tells_broker=False)
        # The broker ends the old connection for the new one, whose word is the last. Where it had
        # not confirmed "online" before, that comes twice.
        wait_until(lambda: b"offline" in states.messages and states.messages[-1] == b"online")
        assert states.messages.count(b"offline") == 1
        target.close()


@pytest.mark.slow
def test_a_target_can_be_closed_while_a_connection_begins(broker: Broker) -> None:
    """A broker that answers when it is over, and then confirms nothing."""
    with Doorkeeper(broker.port) as door:
        door.let_pass(0)
        target = open_target(parse_target(f"mqtt://127.0.0.1:{door.port}/found"), {})
        target.send(Message("key-0", b"0"))
        wait_until(lambda: door.asked == 1)
        problems: list[str] = []

        def close() -> None:
            try:
                target.close()
            except OutputError as error:
                problems.append(str(error))

        closing = threading.Thread(target=close)
        closing.start()
        wait_until(lambda: target._is_closing)  # type: ignore[attr-defined]
        door.let_pass(1)
        closing.join(PATIENCE_S)
        assert not closing.is_alive()
    assert problems == ["1 of 1 messages were not delivered: the broker did not confirm them"]


@pytest.mark.slow
def test_a_broker_that_confirms_nothing_says_that_the_recorder_is_gone(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Subscriber(broker.port, "found/status") as states, Doorkeeper(broker.port) as door:
        target = open_target(parse_target(f"mqtt://127.0.0.1:{door.port}/found"), {})
        target.send(Message("key-0", b"0"))
        wait_until(lambda: target.delivered == 1)
        door.let_pass(0)
        target.send(Message("key-1", b"1"))
        client = target._client  # type: ignore[attr-defined]
        disconnect = client.disconnect

        def disconnect_whole() -> None:
            disconnect()
            wait_until(lambda: client.socket() is None)  # what is still to be sent is sent

        monkeypatch.setattr(client, "disconnect", disconnect_whole)
        with pytest.raises(OutputError, match="1 of 2 messages were not delivered"):
            target.close()
        door.end_connections()
        wait_until(lambda: states.messages[-1] == b"offline")


def test_a_line_that_is_being_written_keeps_its_file(tmp_path: Path) -> None:
    """Closed by another thread meanwhile, it would go on in whatever file gets the number."""
    os.mkfifo(tmp_path / "lines")
    reader = os.open(tmp_path / "lines", os.O_RDONLY | os.O_NONBLOCK)
    target = open_target(parse_target(str(tmp_path / "lines")), {})
    text = b"x" * 2_000_000  # more than a pipe takes
    refused: list[str] = []

    def write() -> None:
        target.send(Message("long", text))
        try:
            target.send(Message("late", b"late"))
        except OutputError as error:
            refused.append(str(error))

    writing = threading.Thread(target=write)
    writing.start()
    wait_until(lambda: select.select([reader], [], [], 0)[0] != [])
    target.close()
    other = os.open(tmp_path / "session", os.O_WRONLY | os.O_CREAT)
    taken = bytearray()
    while len(taken) < len(text) + 1:
        select.select([reader], [], [])
        taken += os.read(reader, 1 << 20)
    writing.join()
    os.close(other)
    os.close(reader)
    assert bytes(taken) == text + b"\n"
    assert (tmp_path / "session").read_bytes() == b""
    assert refused == [f"{tmp_path / 'lines'}: publishing ended: it is closed"]


@pytest.mark.slow
def test_no_message_is_lost_while_a_broker_is_away(tmp_path: Path, broker: Broker) -> None:
    """With QoS 0, paho keeps none."""
    session = record(tmp_path / "s.parquet", 300)
    broker.kill()
    sent: list[int] = []

    def publish_it() -> None:
        with dgrec.open(session) as opened:
            address = parse_target(f"mqtt://127.0.0.1:{broker.port}/found?qos=0")
            sent.extend(publish(opened, [address], speed=None, on_wait=waiting.append))

    waiting: list[str] = []
    thread = threading.Thread(target=publish_it)
    thread.start()
    try:
        wait_until(lambda: waiting)
        broker.start()
        with Subscriber(broker.port, "found"):
            thread.join()
    finally:
        broker.kill()
        thread.join()
    assert sent == [300]


def test_names_in_a_topic_may_be_any_text(tmp_path: Path, broker: Broker) -> None:
    names = {"source": "\x1b\n+#\udcff", "session": "t\u00fcr"}
    target = open_target(
        parse_target(f"mqtt://127.0.0.1:{broker.port}/{{source}}{{session}}"), names
    )
    with Subscriber(broker.port, "#") as subscriber, target:
        target.send(Message("k", b"{}"))
        wait_until(lambda: b"{}" in subscriber.messages)
    assert "_____t\u00fcr" in subscriber.topics


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes anyway."""
    monkeypatch.setattr(mqtt, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(output, "_PATIENCE_IN_A_HURRY_S", 1.0)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_no_broker_costs_the_recording_nothing_and_is_said(tmp_path: Path) -> None:
    path = record(tmp_path / "s.parquet", 50, f"mqtt://127.0.0.1:{free_port()}/found")
    with dgrec.open(path) as session:
        assert len(session) == 50
    assert len(notes_of(path)) == 1
    assert "50 of 50 messages were not delivered: Connection refused" in notes_of(path)[0]


@pytest.mark.slow
def test_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = tmp_path / "users"
    users.touch(mode=0o700)
    subprocess.run(["mosquitto_passwd", "-b", users, "ann", "secret-word"], check=True)
    settings = f"allow_anonymous false\npassword_file {users}\nuser root"
    with Broker(tmp_path, settings) as broker:
        address = f"mqtt://127.0.0.1:{broker.port}/found"
        monkeypatch.setenv("DGREC_PUBLISH_USER", "ann")
        monkeypatch.setenv("DGREC_PUBLISH_PASSWORD", "secret-word")
        with Subscriber(
            broker.port, "found", lambda client: client.username_pw_set("ann", "secret-word")
        ) as subscriber:
            path = record(tmp_path / "right.parquet", 5, address)
            wait_until(lambda: len(subscriber.messages) == 5)
        assert notes_of(path) == []
        monkeypatch.setenv("DGREC_PUBLISH_PASSWORD", "wrong-word")
        path = record(tmp_path / "wrong.parquet", 5, address)
        note = " ".join(notes_of(path))
        assert "the broker refuses: Not authorized" in note
        assert "word" not in note
        login = f"mqtt://ann:wrong-word@127.0.0.1:{broker.port}/found"
        path = record(tmp_path / "login.parquet", 5, login)
        assert "wrong-word" not in " ".join(notes_of(path))
        with dgrec.open(path) as session:
            assert "wrong-word" not in json.dumps(session.metadata)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1".split(),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    settings = f"certfile {certificate}\nkeyfile {key}\nallow_anonymous true\nuser root"
    with Broker(tmp_path, settings) as broker:
        trusted = f"mqtts://127.0.0.1:{broker.port}/found?ca={certificate}"

        def set_up(client: Any) -> None:
            client.tls_set(ca_certs=str(certificate))

        with Subscriber(broker.port, "found", set_up) as subscriber:
            path = record(tmp_path / "right.parquet", 5, trusted)
            wait_until(lambda: len(subscriber.messages) == 5)
        assert notes_of(path) == []
        # Its certificate is not one that this machine trusts.
        untrusted = f"mqtts://127.0.0.1:{broker.port}/found"
        path = record(tmp_path / "wrong.parquet", 5, untrusted)
        assert "the broker's certificate is refused: self-signed certificate" in notes_of(path)[0]
    gc.collect()  # paho does not close the socket of such a connection


# --- web servers ---


@pytest.mark.slow
def test_a_web_server_gets_each_message_once(tmp_path: Path) -> None:
    attempts: Counter[str] = Counter()

    def answer(key: str) -> int:
        attempts[key] += 1
        return 503 if attempts[key] == 1 and key.endswith(("-7", "-19")) else 204

    with web_server(answer) as (url, taken, _):
        path = record(tmp_path / "s.parquet", 30, url)
        assert [body for _, body in taken] == messages_of(path)
        assert len({key for key, _ in taken}) == 30
        assert attempts.total() == 32
    assert notes_of(path) == []


def test_a_web_server_that_is_away_is_said_in_the_words_of_the_system() -> None:
    url = f"http://127.0.0.1:{free_port()}/found"
    target = open_target(parse_target(url), {})
    target.give_up()  # after the first attempt
    with pytest.raises(OutputError, match=f"^{re.escape(url)}: Connection refused$"):
        target.send(Message("key-0", b"{}"))
    target.close()


@pytest.mark.slow
def test_a_web_server_that_refuses_ends_the_publishing(tmp_path: Path) -> None:
    with web_server(lambda key: 403) as (url, taken, _):
        path = record(tmp_path / "s.parquet", 30, url)
        assert taken == []
    assert notes_of(path) == [f"{url}: the server answers 403 Forbidden"]
    with dgrec.open(path) as session:
        assert len(session) == 30


@pytest.mark.slow
@pytest.mark.parametrize("body", ["endless", "cut off", "no gzip"])
def test_what_a_web_server_says_beside_its_status_is_of_no_matter(body: str) -> None:
    """An answer without an end would take all memory, and one that cannot be read was one."""
    keys = []

    class Talkative(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            keys.append(self.headers["Idempotency-Key"])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            if body != "endless":
                self.send_header("Content-Length", "9")
            if body == "no gzip":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(b"123456789"[: 5 if body == "cut off" else 9])
            # More than is buffered on the way.
            with contextlib.suppress(OSError):
                for _ in range(500 if body == "endless" else 0):
                    self.wfile.write(bytes(1_000_000))
                    sent.append(1)

        def log_message(self, *_: Any) -> None:
            pass

    sent: list[int] = []
    with serving(Talkative) as url, open_target(parse_target(url), {}) as target:
        for key in "ab":
            target.send(Message(key, b"{}"))
    assert keys == ["a", "b"]
    assert target.delivered == 2
    assert len(sent) < 500


@pytest.mark.slow
def test_an_answer_that_dribbles_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte every now and then kept the target from all messages that followed."""
    monkeypatch.setattr(http, "_BODY_S", 0.1)
    taken, is_over = [], threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            taken.append(self.headers["Idempotency-Key"])
            self.send_response(200)
            self.send_header("Content-Length", "60000")
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(round(PATIENCE_S * 20)):
                    self.wfile.write(b"a")
                    if is_over.wait(0.05):
                        break

        def log_message(self, *_: Any) -> None:
            pass

    def send() -> None:
        for key in "abc":
            target.send(Message(key, b"{}"))

    with serving(Slow) as url, open_target(parse_target(url), {}) as target:
        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        sending.join(PATIENCE_S / 2)
        is_over.set()
        assert taken == [*"abc"]
        assert target.delivered == 3


def test_what_a_web_server_says_of_its_refusal_is_short() -> None:
    class Verbose(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(418, "no " * 10_000)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    refused = pytest.raises(OutputError, match="the server answers 418 no no")
    with serving(Verbose) as url, open_target(parse_target(url), {}) as target, refused as caught:
        target.send(Message("a", b"{}"))
    assert len(str(caught.value)) < 300


def test_a_token_for_a_web_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DGREC_PUBLISH_TOKEN", "secret-token")
    with web_server(lambda key: 200) as (url, _, server):
        path = record(tmp_path / "s.parquet", 1, url)
        assert server.headers["Authorization"] == "Bearer secret-token"
        assert server.headers["Content-Type"] == "application/json"
    with dgrec.open(path) as session:
        assert "secret-token" not in json.dumps(session.metadata)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_stalled_server_beside_a_healthy_one(tmp_path: Path) -> None:
    """One takes everything, the other nothing: the recording and the healthy one go on."""
    release = threading.Event()

    def stall(key: str) -> int:
        release.wait()
        return 200

    lines = tmp_path / "lines.jsonl"
    with web_server(stall) as (url, _, _):
        try:
            with dgrec.open(record(tmp_path / "s.parquet", 2000, url, str(lines))) as session:
                assert len(session) == 2000
                notes = session.metadata["notes"]
        finally:
            release.set()
    assert [line.encode() for line in lines.read_text().splitlines()] == messages_of(
        tmp_path / "s.parquet"
    )
    # 2,000 frames: one was being sent, the others waited or were left out.
    assert len(notes) == 1
    assert url in notes[0]
    assert "left behind" in notes[0]


# --- bad targets ---


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("", "the target is empty"),
        ("amqp://host/queue", "targets are -, a file, mqtt://, mqtts://, http://, https://"),
        ("mqtt://host", "names no topic"),
        ("mqtt:///topic", "names no host"),
        ("mqtt://host:port/topic", "is not an address"),
        ("mqtt://host:99999/topic", "is not an address"),
        ("mqtt://host/cams/+/found", "has no +, no # and no control"),
        ("mqtt://host/cams%0A/found", "has no +, no # and no control"),
        ("mqtt://host/cams/{nobody}", "names in a topic are {source}, {session}"),
        ("mqtt://host/cams/{source.x}", "names in a topic are"),
        ("mqtt://host/cams/{source.__class__}", "names in a topic are"),
        ("mqtt://host/cams/{source!r:>99}", "names in a topic are"),
        ("mqtt://host/cams/#", "an address has no #; %23 stands for one in a name"),
        ("http://host/in#x", "an address has no #"),
        ("mqtt://host:0/topic", "0 is not a port"),
        ("http://two words/in", "is not an address: a part of it cannot be read"),
        ("http://host/in?key=***", "write what *** stands for"),
        ("mqtt://***@host/topic", "write what *** stands for"),
        ("mqtt://host/topic?qos=7", "qos is 0, 1 or 2"),
        ("mqtt://host/topic?speed=7", "'speed' is not an option; expected qos, retain, client_id"),
        ("http://", "names no host"),
        ("ws://host", "names no port to serve; expected ws://HOST:PORT"),
        ("sse://host:0", "names no port to serve"),
        ("ws://ann:word@host:8765", "clients need no login; DGREC_TOKEN sets a token"),
        ("ws://host:8765/{nobody}", "names in a path are {source}, {session}"),
        ("ws://host:8765?token=word", "'token' is not an option; expected origin"),
    ],
)
def test_bad_targets_are_refused_in_one_line(target: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_target(target)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["MQTT", "Http", "SSE"])
def test_a_scheme_may_have_capitals(scheme: str) -> None:
    address = parse_target(f"{scheme}://127.0.0.1:8080/found")
    assert address == parse_target(f"{scheme.lower()}://127.0.0.1:8080/found")
    assert address.given == f"{scheme.lower()}://127.0.0.1:8080/found"


def test_options_are_shown_since_they_are_no_secrets() -> None:
    text = "mqtt://ann:pass-word@host/topic?qos=0&client_id=recorder"
    assert parse_target(text).given == "mqtt://***@host/topic?qos=0&client_id=recorder"
    assert redact_text("the recorder's pass-word") == "the recorder's ***"


def test_a_certificate_that_is_missing() -> None:
    address = parse_target("mqtts://host/topic?ca=/missing.pem")
    with pytest.raises(ConfigError, match="certificate: "):
        open_target(address, {})


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_target_that_did_not_get_everything_fails_the_command(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(3))
    address = parse_target(f"mqtt://127.0.0.1:{free_port()}/found")
    with dgrec.open(path) as session, pytest.raises(OutputError, match="3 of 3 messages"):
        publish(session, [address], speed=None)


@pytest.mark.slow
def test_a_web_server_that_is_waited_for_is_said_once(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(3))
    attempts: Counter[str] = Counter()

    def answer(key: str) -> int:
        attempts[key] += 1
        return 503 if attempts[key] == 1 else 204

    said: list[str] = []
    with web_server(answer) as (url, taken, _), dgrec.open(path) as session:
        assert publish(session, [parse_target(url)], speed=None, on_wait=said.append) == [3]
        assert len(taken) == 3
    assert [line.partition(";")[0] for line in said] == [
        f"{url}: the server answers 503 Service Unavailable"
    ]


@pytest.mark.slow
def test_a_broker_that_is_waited_for_is_said_once(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(120))
    said: list[str] = []

    def give_up(line: str) -> None:
        said.append(line)
        raise KeyboardInterrupt

    address = parse_target(f"mqtt://127.0.0.1:{free_port()}/found")
    # Leaving, it complains of what was not delivered.
    with dgrec.open(path) as session, pytest.raises((KeyboardInterrupt, OutputError)):
        publish(session, [address], speed=None, on_wait=give_up)
    assert [line.partition(";")[0] for line in said] == [f"{address.given}: Connection refused"]


@contextlib.contextmanager
def broker_that_answers(answer: bytes) -> Iterator[str]:
    """Yield the address of what gives CONNECT this answer, and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with contextlib.suppress(OSError), connection:
                        connection.recv(1000)
                        connection.sendall(answer)
                        # Closed with something unread, it would be reset, and the answer lost.
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(1000):
                            pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"mqtt://127.0.0.1:{listening.getsockname()[1]}/found"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_S)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_why_a_broker_refuses_for_now_is_said() -> None:
    """It was taken for a connection: "the broker did not confirm them"."""
    said: list[str] = []
    why = "the broker refuses: Server unavailable"
    with broker_that_answers(b"\x20\x02\x00\x03") as address:
        target = open_target(parse_target(address), {})
        target.on_wait = said.append
        sending = threading.Thread(target=lambda: _send_all(target, 101), daemon=True)
        sending.start()
        wait_until(lambda: said)
        with pytest.raises(OutputError, match=f"100 of 100 messages were not delivered: {why}"):
            target.close()
        sending.join(PATIENCE_S)
    assert said == [f"{address}: {why}; it is tried again until it takes messages"]


def _send_all(target: Target, count: int) -> None:
    with contextlib.suppress(OutputError):
        for number in range(count):
            target.send(Message(str(number), b"{}"))


def test_two_clients_of_one_name_are_refused() -> None:
    """Their broker ended the connection of one for the other, again and again."""
    one, other = "mqtt://host/a?client_id=cam", "mqtt://host:1883/b?qos=0&client_id=cam"
    with pytest.raises(ConfigError, match="only one client of a name"):
        PublishRequest(publish=(one, other))
    PublishRequest(publish=(one, "mqtt://host:1884/b?client_id=cam", "mqtt://host/b"))
    with pytest.raises(ConfigError, match="client_id takes one source only"):
        PublishRequest(publish=(one,)).check_several()


@pytest.mark.parametrize(
    ("options", "environment", "what"),
    [
        ("", {}, "topic"),
        ("?client_id=" + "a" * 70_000, {}, "client_id"),
        ("?client_id=%00", {}, "client_id"),
        ("", {"USER": "ann", "PASSWORD": "hunter2" * 10_000}, "password"),
        ("", {"USER": "ann", "PASSWORD": "hunter2\udcff"}, "password"),
    ],
)
def test_what_mqtt_cannot_send_is_named(
    monkeypatch: pytest.MonkeyPatch, options: str, environment: dict[str, str], what: str
) -> None:
    """paho's thread ended by a traceback, and the target waited for ever."""
    for name, value in environment.items():
        monkeypatch.setenv(f"DGREC_PUBLISH_{name}", value)
    name = "a" * 70_000 if what == "topic" else "cam"
    address = parse_target(f"mqtt://127.0.0.1:1/{{source}}{options}")
    with pytest.raises(ConfigError, match=f"the {what} is longer than MQTT can send") as caught:
        open_target(address, {"source": name})
    assert len(str(caught.value)) < 400
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("token", ["tk-Vb7xKq4WmN\nx", "tk-Vb7xKq4WmN-\u0416"])
def test_a_token_that_no_header_can_have_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """http.client shows it."""
    monkeypatch.setenv("DGREC_PUBLISH_TOKEN", token)
    with pytest.raises(ConfigError, match="characters that a header cannot have") as caught:
        open_target(parse_target("http://127.0.0.1:1/hook"), {})
    assert "Vb7" not in str(caught.value)


def test_a_login_of_any_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DGREC_PUBLISH_USER", "\u017deljko")
    monkeypatch.setenv("DGREC_PUBLISH_PASSWORD", "\u4e2d-hunter2")
    with web_server(lambda key: 200) as (url, _, server):
        with open_target(parse_target(url), {}) as target:
            target.send(Message("a", b"{}"))
        kind, _, login = server.headers["Authorization"].partition(" ")
    assert (kind, b64decode(login).decode()) == ("Basic", "\u017deljko:\u4e2d-hunter2")


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    """Which the command ends with 4 for."""
    path = write_session(tmp_path / "s.parquet", make_rows(3))
    full = pytest.raises(StorageError, match="/dev/full: publishing ended: No space")
    with dgrec.open(path) as session, full as caught:
        publish(session, [parse_target("/dev/full")], speed=None)
    assert caught.value.exit_code == 4


def test_a_served_target_says_that_it_waits_for_a_client(tmp_path: Path) -> None:
    path = write_session(tmp_path / "s.parquet", make_rows(3))
    address = f"ws://127.0.0.1:{free_port()}"
    said: list[str] = []

    class Enough(Exception):  # noqa: N818 - nobody connects
        pass

    def on_wait(line: str) -> None:
        said.append(line)
        raise Enough

    with dgrec.open(path) as session, pytest.raises(Enough):
        publish(session, [parse_target(address)], speed=None, on_wait=on_wait)
    assert said == [f"{address}: waiting for a client"]
