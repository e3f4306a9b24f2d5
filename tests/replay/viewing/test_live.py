"""A recording while it goes on: rows, the times of their pictures, and what is said of it."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec.format import JournalWriter
from dgrec.paths import part_path
from tests.dgrec.stand_in.numbered import NumberReader, clip
from tests.factory import make_rows, new_metadata, write_session
from tests.replay.viewing.client import Client, served, strict
from tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow

FRAMES = 60


@contextlib.contextmanager
def events(client: Client, name: str) -> Iterator[Iterator[tuple[str, Any]]]:
    """Ask for what happens, and give the events as they come."""
    connection = http.client.HTTPConnection("127.0.0.1", client.server.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        headers = {"Authorization": f"Bearer {client.token}"}
        connection.request("GET", f"/api/live?s={name}", headers=headers)
        response = connection.getresponse()
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"

        def read() -> Iterator[tuple[str, Any]]:
            for line in response:
                kind, _, value = line.strip().partition(b": ")
                if kind == b"event":
                    yield value.decode(), strict(next(response).partition(b": ")[2])

        yield read()


def test_it_grows_and_ends(tmp_path: Path) -> None:
    source = clip(tmp_path / "source.mp4", FRAMES)
    output = tmp_path / "s.parquet"
    stream = iter(dgrec.predict_stream(NumberReader(), source, output=output, video="raw"))
    next(stream)
    source.unlink()
    for _ in range(FRAMES // 2):
        next(stream)
    with served(tmp_path) as client:
        wait_until(lambda: bool(client.json("/api/sessions")["sessions"]), pause_s=0.1)
        with events(client, "s") as found:
            kind, value = next(found)
            while value["n"] < 20:  # the journal is written once a second
                assert kind == "grew"
                kind, value = next(found)
            card = client.json("/api/card", s="s")
            assert (card["state"], card["videos"][0]["kind"]) == ("being recorded", "raw")
            before = client.json("/api/rows", s="s", **{"from": 0, "to": value["n"]})
            for _ in stream:
                pass
            *_, (kind, value) = found
            assert (kind, value["n"]) == ("ended", FRAMES)
        after = client.json("/api/rows", s="s", **{"from": 0, "to": FRAMES})
        count = len(before["frame"])
        assert before["frame"] == after["frame"][:count] == [*range(count)]
        for name in ("t", "video", "pts_s", "state"):
            assert before[name] == after[name][:count], name
        assert set(after["video"]) == {0}
        data = client.ask("/video", s="s", k=0)[2]
        assert data == (tmp_path / "s.mp4").read_bytes()


def test_an_alert_that_comes_while_older_ones_are_removed(tmp_path: Path) -> None:
    def alerts(*seconds: int) -> list[dict[str, Any]]:
        stamps = [f"2026-01-02T03:04:{second:02}.000000Z" for second in seconds]
        return [{"kind": "alert", "text": at, "from": at, "to": at} for at in stamps]

    def part(number: int, *seconds: int) -> dict[str, Any]:
        facts = {"set_id": "a-set", "number": number}
        return new_metadata(part=facts, events=alerts(*seconds))

    path, rows = tmp_path / "s.parquet", make_rows(30)
    write_session(part_path(path, 1), rows[:10], part(1, 6, 7))
    with contextlib.closing(JournalWriter(tmp_path / "s-0002.arrows", part(2, 8))) as journal:
        journal.write(rows[10:20])
        with served(tmp_path) as client, events(client, "s") as found:
            assert next(found)[0] == "grew"
            part_path(path, 1).unlink()
            journal.write(rows[20:], events=alerts(9))
            journal.close()
            names = [value["name"] for kind, value in found if kind == "alert"]
    assert names == [each["text"] for each in alerts(9)]
