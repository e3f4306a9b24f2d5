"""Deliveries of a recording to targets: exact to the frame, also after a kill."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.errors import ConfigError
from dgrec.publishing import (
    PayloadOptions,
    PublishedFrame,
    http,
    missing_command,
    mqtt,
    open_target,
    parse_target,
)
from dgrec.publishing.payload import message_of
from dgrec.recorder.outputs import Publisher, later_delivery, output
from dgrec.recorder.recovery import recover
from dgrec.replay.publishing import publish_missing
from dgrec.session import open_session
from tests.factory import make_detection
from tests.live_clients import WebSocketClient, silent_websocket
from tests.recorder.broker import Broker, Subscriber, free_port, web_server
from tests.waiting import PATIENCE_S, wait_until

#: A reading of the clock, of one part of a process and of another, may differ by as much.
SLACK_MS = 1.0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes anyway."""
    monkeypatch.setattr(mqtt, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(output, "_PATIENCE_IN_A_HURRY_S", 1.0)
    monkeypatch.setattr(later_delivery, "_PATIENCE_S", 1.0)
    monkeypatch.setattr(http, "_FIRST_WAIT_S", 0.05)


def publisher(target: str, **options: Any) -> Publisher:
    reopen = options.pop("later", False)
    address = parse_target(target)
    return Publisher(
        open_target(address, {}),
        PayloadOptions(**{k: options.pop(k) for k in ("form", "every") if k in options}),
        reopen=(lambda: open_target(address, {})) if reopen else None,
        **options,
    )


def record(
    path: Path,
    count: int,
    *outputs: Publisher,
    pause: Callable[[int], None] = lambda _: None,
    padding: str = "",
    **options: Any,
) -> None:
    extra = {"note": padding} if padding else {}
    with dgrec.Recorder(path, outputs=outputs, **options) as recorder:
        for index in range(count):
            recorder.add([make_detection(index, **extra)], captured_at=time.time() - 0.005)
            pause(index)


def rows_of(path: Path) -> list[dict[str, Any]]:
    with open_session(path) as session:
        return [result.row for result in session]


def target_of(path: Path, number: int = 0) -> dict[str, Any]:
    with open_session(path) as session:
        found: dict[str, Any] = session.metadata["targets"][number]
        return found


def frames_in(entry: dict[str, Any], rows: list[dict[str, Any]]) -> list[int]:
    """Return the frames of the ranges of what was left out."""
    ranges = entry["left_out"]
    numbers = [row["source_frame"] for row in rows]
    return [n for n in numbers if any(first <= n <= last for first, last in ranges)]


def not_published(rows: list[dict[str, Any]]) -> list[int]:
    return [row["source_frame"] for row in rows if row["published_ms"] is None]


def number_of(key: str) -> int:
    return int(key.rpartition("-")[2])


def frames_left_in(connection: socket.socket) -> list[int]:
    """Return the frames that a WebSocket still gives whose client has read nothing; close it."""
    data = bytearray()
    connection.settimeout(2)  # what is left dribbles for minutes
    with connection, contextlib.suppress(OSError):
        while len(data) < 12_000 and (part := connection.recv(1 << 16)):
            data += part
    numbers, at = [], data.index(b"\r\n\r\n") + 4
    while data[at : at + 2] == b"\x81\x7e":  # a whole text of more than 125 bytes
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            break
        numbers.append(json.loads(data[at + 4 : end])["source_frame"])
        at = end
    return numbers


# --- when ---


@pytest.mark.slow
def test_when_a_web_server_had_taken_each_frame(tmp_path: Path) -> None:
    """After its own answer began, and before the next message reached it."""
    path = tmp_path / "s.parquet"
    asked: list[tuple[int, float]] = []

    def answer(key: str) -> int:
        asked.append((number_of(key), time.time()))
        return 200

    with web_server(answer) as (url, _, _):
        record(path, 200, publisher(url))
    rows = rows_of(path)
    assert [number for number, _ in asked] == [row["source_frame"] for row in rows]
    taken = [row["captured_at"].timestamp() + row["published_ms"] / 1e3 for row in rows]
    times = [at for _, at in asked]
    slack = SLACK_MS / 1e3
    assert all(at <= when + slack for at, when in zip(times, taken, strict=True))
    assert all(when <= at + slack for when, at in zip(taken, times[1:], strict=False))
    assert all(row["published_ms"] >= row["latency_ms"] for row in rows)
    entry = target_of(path)
    assert entry["frames"] == entry["delivered"] == 200
    assert entry["left_out"] == []


@pytest.mark.slow
def test_the_slowest_of_two_targets_counts(tmp_path: Path) -> None:
    path, lines = tmp_path / "s.parquet", tmp_path / "lines.jsonl"
    asked: dict[int, float] = {}

    def answer(key: str) -> int:
        asked[number_of(key)] = time.time()
        return 200

    with web_server(answer) as (url, _, _):
        record(path, 60, publisher(url), publisher(str(lines), every=3))
    rows = rows_of(path)
    # The file gets one of three, and a frame counts as published where both targets have it.
    assert not_published(rows) == [n for n in range(60) if n % 3]
    both = [row for row in rows if row["published_ms"] is not None]
    for row in both:
        when = row["captured_at"].timestamp() + row["published_ms"] / 1e3
        assert asked[row["source_frame"]] <= when + SLACK_MS / 1e3
    assert [target_of(path, n)["frames"] for n in (0, 1)] == [60, 20]
    assert [target_of(path, n)["left_out"] for n in (0, 1)] == [[], []]


@pytest.mark.slow
def test_a_journal_reads_as_the_sealed_session_does(tmp_path: Path) -> None:
    path, kept = tmp_path / "s.parquet", tmp_path / "kept.arrows"
    journal = path.with_suffix(".arrows")

    def refuse(key: str) -> int:
        return 403 if number_of(key) == 80 else 200

    def keep(index: int) -> None:
        if index == 99:
            wait_until(lambda: len(taken) == 80)
            wait_until(lambda: target_of(journal)["delivered"] == 80)
            kept.write_bytes(journal.read_bytes())

    with web_server(refuse) as (url, taken, _):
        record(path, 100, publisher(url), pause=keep)
    rows = rows_of(path)
    found = rows_of(kept)
    assert 80 <= len(found) <= 100
    assert [r["published_ms"] for r in found] == [r["published_ms"] for r in rows[: len(found)]]
    with open_session(kept) as session:  # one row at a time, from the middle
        assert session.row(40)["published_ms"] == rows[40]["published_ms"]
        query = "SELECT count(published_ms), sum(published_ms) FROM frames"
        count, total = session.sql_rows(query)[0]
    assert count == 80
    assert total == pytest.approx(sum(row["published_ms"] for row in rows[:80]))


# --- what was left out ---


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_server_that_refuses_gets_exactly_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    refuses = threading.Event()
    refuses.set()

    def answer(key: str) -> int:
        return 403 if refuses.is_set() and number_of(key) >= 30 else 200

    with web_server(answer) as (url, taken, _):
        record(path, 100, publisher(url))
        rows, entry = rows_of(path), target_of(path)
        assert not_published(rows) == frames_in(entry, rows) == [*range(30, 100)]
        assert entry["delivered"] == 30
        refuses.clear()
        del taken[:]
        with dgrec.open(path) as session:
            assert publish_missing(session, [parse_target(url)]) == [70]
            expected = [
                message_of(PublishedFrame.of_recorded(row, session.id)) for row in rows[30:]
            ]
    assert [body for _, body in taken] == expected


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("every", [1, 3])
def test_publish_later_delivers_exactly_the_rest(tmp_path: Path, every: int) -> None:
    """Of a recording whose target fails in the middle, and takes messages again at its end."""
    path = tmp_path / "s.parquet"
    has_failed = threading.Event()

    def answer(key: str) -> int:
        if number_of(key) == 30 and not has_failed.is_set():
            has_failed.set()
            return 403
        return 200

    with web_server(answer) as (url, taken, _):
        record(path, 100, publisher(url, every=every, later=True))
    due = [*range(0, 100, every)]
    assert [number_of(key) for key, _ in taken] == due
    rows, entry = rows_of(path), target_of(path)
    assert [r["source_frame"] for r in rows if r["published_ms"] is not None] == due
    assert (entry["frames"], entry["delivered"]) == (len(due), len(due))
    assert entry["left_out"] == []
    with dgrec.open(path) as session:
        assert "messages delivered later" in session.metadata["notes"][-1]
        assert publish_missing(session, [parse_target(url)]) == [0]


@pytest.mark.usefixtures("impatient")
def test_targets_that_look_the_same_without_secrets_get_each_their_rest(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    failing = True

    def answer(key: str) -> int:
        return 403 if failing else 200

    with web_server(lambda _: 200) as (url, healthy, _), web_server(answer) as (other, taken, _):
        # The same host: a port is shown.
        same = f"{other}?key=one", f"{other}?key=two"
        record(path, 20, publisher(f"{url}?key=one"), *map(publisher, same))
        names = [target_of(path, number)["target"] for number in range(3)]
        assert names == [f"{url}?key=***", f"{other}?key=***", f"{other}?key=***#2"]
        assert [target_of(path, number)["delivered"] for number in range(3)] == [20, 0, 0]
        failing = False
        with dgrec.open(path) as session:
            with pytest.raises(ConfigError, match="was published to 2 targets that are"):
                publish_missing(session, [parse_target(same[1])])
            assert publish_missing(session, [*map(parse_target, same)]) == [20, 20]
    assert len(healthy) == 20
    assert [number_of(key) for key, _ in taken] == [*range(20), *range(20)]
    hint = missing_command("s.parquet", names[2])
    assert hint == (
        f"dgrec publish s.parquet '{other}?key=***' --missing "
        "(with what *** stands for, all that look the same)"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_target_that_fails_again_gets_the_rest_by_the_command(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    failing = {30, 60}

    def answer(key: str) -> int:
        if number_of(key) in failing:
            failing.discard(number_of(key))
            return 403
        return 200

    with web_server(answer) as (url, taken, _):
        record(path, 100, publisher(url, later=True))
        assert [number_of(key) for key, _ in taken] == [*range(60)]
        rows, entry = rows_of(path), target_of(path)
        assert not_published(rows) == frames_in(entry, rows) == [*range(60, 100)]
        with dgrec.open(path) as session:
            note = session.metadata["notes"][-1]
            assert note == f"{url}: 30 messages delivered later: the server answers 403 Forbidden"
            assert publish_missing(session, [parse_target(url)]) == [40]
    assert [number_of(key) for key, _ in taken] == [*range(100)]


@pytest.mark.slow
def test_the_signal_after_the_one_that_ends_the_recording_ends_what_is_sent_later(
    tmp_path: Path,
) -> None:
    """A camera's recording is ended by one, and a second one would leave it unsealed."""
    path, lines = tmp_path / "s.parquet", tmp_path / "lines.jsonl"
    refused: set[str] = set()
    has_ended = threading.Event()

    def answer(key: str) -> int:
        if key not in refused and not has_ended.is_set():
            refused.add(key)
            return 403
        has_ended.set()  # a message comes again when the recording is over
        time.sleep(1.0)  # all of it takes longer than anybody waits here
        return 200

    with web_server(answer) as (url, taken, _):
        running = subprocess.Popen(
            [
                *(sys.executable, "-m", "dgrec", "record", "--source", "sample", "--loop"),
                *("--publish", url, "--publish", lines, "--publish-later", "--output", path),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until(lambda: bool(refused), process=running)
            wait_until(
                lambda: lines.exists() and lines.read_bytes().count(b"\n") > 60, process=running
            )
            running.send_signal(signal.SIGINT)
            wait_until(lambda: len(taken) > 1, process=running)
            running.send_signal(signal.SIGINT)
            _, errors = running.communicate(timeout=PATIENCE_S)
        finally:
            running.kill()
            running.wait()
    assert running.returncode == 0, errors
    assert 0 < target_of(path)["delivered"] < target_of(path)["frames"]
    with dgrec.open(path) as session:
        assert "delivered later" in session.metadata["notes"][-1]


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_broker_that_is_killed_gets_exactly_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    before = threads()
    with Broker(tmp_path) as broker:
        address = f"mqtt://127.0.0.1:{broker.port}/found"
        first: list[bytes] = []

        def pause(index: int) -> None:
            if index == 299:
                wait_until(lambda: made.delivered == 300)
                broker.kill()

        made = publisher(address)
        record(path, 500, made, pause=pause)
        rows, entry = rows_of(path), target_of(path)
        assert not_published(rows) == frames_in(entry, rows) == [*range(300, 500)]
        # Nothing goes on trying behind the program's back.
        wait_until(lambda: "dgrec-output" not in {each.name for each in threads() - before})
        broker.start()
        with Subscriber(broker.port, "found") as subscriber, dgrec.open(path) as session:
            assert publish_missing(session, [parse_target(address)]) == [200]
            wait_until(lambda: len(subscriber.messages) >= 200)
            expected = [
                message_of(PublishedFrame.of_recorded(row, session.id)) for row in rows[300:]
            ]
            assert subscriber.messages == expected
    assert first == []


@pytest.mark.slow
def test_a_broker_that_comes_back_gets_everything(tmp_path: Path) -> None:
    """Restarted in the middle, it confirms what had waited, in order: nothing is left out."""
    path = tmp_path / "s.parquet"
    with Broker(tmp_path) as broker:
        made = publisher(f"mqtt://127.0.0.1:{broker.port}/found")

        def pause(index: int) -> None:
            if index == 200:
                broker.kill()
            if index == 260:
                broker.start()
            if index == 399:
                wait_until(lambda: made.delivered >= 400)

        record(path, 400, made, pause=pause)
    rows, entry = rows_of(path), target_of(path)
    assert entry["left_out"] == []
    assert entry["delivered"] == 400
    assert all(row["published_ms"] >= row["latency_ms"] for row in rows)


@pytest.mark.slow
def test_a_websocket_that_never_reads_is_counted_to_the_frame(tmp_path: Path) -> None:
    path, port = tmp_path / "s.parquet", free_port()
    address = f"ws://127.0.0.1:{port}"
    made = publisher(address, form="full")
    stalled: list[socket.socket] = []

    def pause(index: int) -> None:
        if index == 100:
            stalled.append(silent_websocket(port))
            wait_until(lambda: made.delivered == 101)
        if index % 200 == 0:  # no faster than the other client reads
            wait_until(lambda: len(healthy.messages) > index - 200)
        if index == 2999:
            wait_until(lambda: len(healthy.messages) == 3000)

    with WebSocketClient(f"{address}/ws") as healthy:
        made._target.wait_for_client()
        record(path, 3000, made, pause=pause, padding="x" * 4000)
    late = frames_left_in(stalled[0])
    rows, entry = rows_of(path), target_of(path)
    lost = not_published(rows)
    assert lost == frames_in(entry, rows)
    # What fits into the buffers of its connection was taken; the first of it can be read at once.
    assert late
    assert not {*late} & {*lost}
    assert 1000 < len(lost) < 2900
    assert entry["delivered"] == 3000 - len(lost)
    with dgrec.open(path) as session:
        (note,) = session.metadata["notes"]
        assert f"1 client read too slowly: {len(lost):,} messages left out" in note
        # Another client can have them, and no others.
        address = f"ws://127.0.0.1:{free_port()}"
        session.metadata["targets"][:] = [{**entry, "target": address}]
        sending = threading.Thread(
            target=publish_missing, args=(session, [parse_target(address)]), daemon=True
        )
        sending.start()
        got: list[bytes] = []

        def connect() -> bool:
            try:
                with WebSocketClient(f"{address}/ws") as client:
                    client.wait_for(len(lost))
                    got.extend(client.messages)
            except AssertionError:
                return False
            return True

        wait_until(connect)
        sending.join()
    assert [json.loads(message)["source_frame"] for message in got] == lost


# --- after a kill ---

PROGRAM = """
import sys, time
import dgrec
from dgrec.publishing import open_target, parse_target
from dgrec.recorder.outputs import Publisher

path, target = sys.argv[1:]
publisher = Publisher(open_target(parse_target(target), {}))
recorder = dgrec.Recorder(path, outputs=[publisher])
for index in range(10**9):
    recorder.add([{"label": "cat", "score": 0.5, "bbox": [1.0, 2.0, 3.0, 4.0]}],
                 captured_at=time.time())
    time.sleep(0.002)
"""


@pytest.mark.slow
def test_after_a_kill_the_rest_is_what_was_not_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    slow = threading.Event()

    def answer(key: str) -> int:
        if slow.is_set():
            time.sleep(0.01)  # slower than frames come: some wait when it is killed
        return 200

    with web_server(answer) as (url, taken, _):
        program = subprocess.Popen([sys.executable, "-c", PROGRAM, str(path), url])
        try:
            wait_until(lambda: len(taken) >= 200)
            slow.set()
            wait_until(lambda: len(taken) >= 350)
        finally:
            program.send_signal(signal.SIGKILL)
            program.wait()
        before = [number_of(key) for key, _ in taken]
        recover(path.with_suffix(".arrows"))
        rows, entry = rows_of(path), target_of(path)
        assert not_published(rows) == frames_in(entry, rows)
        del taken[:]
        with dgrec.open(path) as session:
            publish_missing(session, [parse_target(url)])
        after = [number_of(key) for key, _ in taken]
    recorded = [row["source_frame"] for row in rows]
    assert before == sorted({*before})
    assert {*before} | {*after} >= {*recorded}
    assert after == not_published(rows)
    # Twice: only what had been taken in the last moment, which no journal says any more.
    twice = sorted({*before} & {*after})
    assert before[len(before) - len(twice) :] == twice
    assert len(twice) < 150


# --- parts, clips, other sessions ---


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_parts_say_what_was_taken_of_each(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    has_failed = threading.Event()

    def answer(key: str) -> int:
        if number_of(key) == 130 and not has_failed.is_set():
            has_failed.set()
            return 403
        return 200

    def pause(index: int) -> None:
        time.sleep(0.02)

    with web_server(answer) as (url, taken, _):
        record(path, 250, publisher(url, later=True), pause=pause, split_every=1)
    assert [number_of(key) for key, _ in taken] == [*range(250)]
    rows, entry = rows_of(path), target_of(path)
    assert (entry["frames"], entry["delivered"], entry["left_out"]) == (250, 250, [])
    with dgrec.open(path) as session:
        parts = [part.path for part in session.parts]
        assert len(parts) >= 4
        assert publish_missing(session, [parse_target(url)]) == [0]
    # Parts that were sealed before the end lack the time of what was delivered later.
    lacking = not_published(rows)
    assert lacking == [*range(130, 130 + len(lacking))]
    alone = [number for part in parts for number in frames_in(target_of(part), rows_of(part))]
    assert alone == lacking
    with open_session(parts[0]) as first:
        assert first.metadata["targets"][0]["delivered"] == len(first)


def test_sessions_of_earlier_versions_have_no_time(tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "data"
    for name in ("format-1.parquet", "format-1-killed.arrows"):
        with open_session(old / name) as session:
            assert "targets" not in session.metadata
            assert session.sql_rows("SELECT count(*), count(published_ms) FROM frames") == [
                (len(session), 0)
            ]
            assert session.row(0)["published_ms"] is None
            with pytest.raises(ConfigError, match="no target is in its metadata"):
                publish_missing(session, [parse_target("-")])
