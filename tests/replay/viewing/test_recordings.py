"""`dgrec view` answers as the library does, for every kind of session."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import psutil
import pytest

import dgrec
from dgrec import sample
from dgrec.errors import DgrecError, SessionError
from dgrec.format import Journal, JournalWriter, seal
from dgrec.paths import part_path
from dgrec.replay.listing import list_session
from dgrec.replay.viewing.opened_session import OpenedSession
from dgrec.replay.viewing.recordings import Recordings
from tests.factory import (
    CLOSING,
    edited,
    make_detection,
    make_row,
    make_rows,
    new_metadata,
    write_journal,
    write_session,
)
from tests.replay.made_sessions import make_sessions
from tests.replay.viewing.client import Client, served
from tests.replay.viewing.numbered_sessions import added
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

STAGES = ("read_ms", "preprocess_ms", "inference_ms", "postprocess_ms", "latency_ms", "recorder_ms")


def finite(values: Any) -> list[float | None]:
    return [None if v is None or not math.isfinite(v) else float(v) for v in values]


def rows_of(client: Client, name: str, count: int) -> dict[str, Any]:
    found: dict[str, Any] = client.json("/api/rows", s=name, **{"from": 0, "to": count})
    return found


def test_every_kind_of_session(tmp_path: Path) -> None:
    made = make_sessions(tmp_path)
    assert len(made) > 50
    seen = 0
    with served(*made.values()) as client:
        listed = {each["path"]: each for each in client.json("/api/sessions")["sessions"]}
        for kind, path in made.items():
            expected = json.loads(json.dumps(asdict(list_session(path))))
            facts = dict(listed[expected["path"]])
            name = facts.pop("s")
            assert facts == expected, kind
            with dgrec.open(path) as session:
                card = client.json("/api/card", s=name)
                assert (card["n"], card["state"]) == (len(session), expected["state"]), kind
                assert card["name"] == name, kind  # whatever it was when it was recorded
                if len(session):
                    check_rows(client, name, session, card)
                    seen += 1
    assert seen > 45


def test_what_detections_have(tmp_path: Path) -> None:
    mask = {"x_min": 1, "y_min": 2, "data": np.ones((4, 5), np.float32)}
    point = {"label": "nose", "category_id": 0, "score": 0.5, "landmark": [1.0, 2.0], "connect": []}
    added: dict[str, dict[str, Any]] = {
        "tracks": {"track_id": 7},
        "masks": {"mask": mask},
        "landmarks": {"landmarks": [point]},
        "angles": {"angle": 0.5},
        "nothing": {},
    }
    for name, more in added.items():
        rows = [make_row(i, [make_detection(**(more if i == 3 else {}))]) for i in range(5)]
        write_session(tmp_path / f"{name}.parquet", rows)
        write_journal(tmp_path / f"{name}-journal.arrows", rows)
    with served(tmp_path) as client:
        for name in added:
            for s in (name, f"{name}-journal"):
                has = client.json("/api/card", s=s)["has"]
                assert [each for each, there in has.items() if there] == (
                    [name] if name in has else []
                )


def check_rows(client: Client, name: str, session: dgrec.Session, card: dict[str, Any]) -> None:
    count = min(len(session), 1000)
    rows = rows_of(client, name, count)
    results = session[:count]
    assert rows["frame"] == [each.frame for each in results]
    assert rows["n"] == [len(each.results) for each in results]
    for column, key in (("dropped_before", "dropped"), ("skipped_before", "skipped")):
        assert rows[key] == [each.row[column] for each in results]
    for stage in STAGES:
        assert rows["ms"][stage] == finite(each.row[stage] for each in results), stage
    captured = [each.row["captured_at"] for each in results]
    if card["clock"] == "captured_at":
        assert rows["t"] == [
            None if at is None else pytest.approx((at - captured[0]).total_seconds(), abs=1e-6)
            for at in captured
        ]
        for i in (0, count // 2, count - 1):
            t, stamps = rows["t"][i], [each for each in rows["t"] if each is not None]
            if t is not None and stamps == sorted(set(stamps)) and count == len(session):
                assert client.json("/api/at", s=name, t=t) == {"i": i}
    for i in (0, count - 1):
        if rows["frame"].count(rows["frame"][i]) == 1:
            assert client.json("/api/at", s=name, frame=rows["frame"][i]) == {"i": i}
    one = client.json("/api/row", s=name, i=count - 1)
    assert one["frame"] == rows["frame"][-1]
    assert len(one["detections"]) == rows["n"][-1]


def test_positions_where_frames_are_missing(tmp_path: Path) -> None:
    """A part in the middle was removed: its frames have no position."""
    for number in (1, 3):
        first = number * 10 - 10
        path = part_path(tmp_path / "s.parquet", number)
        facts = {"number": number, "set_id": "x", "first_frame": first}
        metadata = {**new_metadata("s"), "part": facts}
        writer = JournalWriter(path.with_suffix(".arrows"), metadata, first_frame=first)
        writer.write(make_rows(30)[first : first + 10])
        writer.end(CLOSING)
        writer.close()
        seal(Journal.open(writer.path), path)
        writer.path.unlink()
    with served(tmp_path) as client:
        assert client.json("/api/card", s="s")["n"] == 20
        rows_found = rows_of(client, "s", 20)
        assert rows_found["frame"] == [*range(10), *range(20, 30)]
        assert [client.json("/api/at", s="s", frame=f)["i"] for f in (9, 20, 29)] == [9, 10, 19]
        assert client.json("/api/at", s="s", frame=12)["i"] in (9, 10)
        assert rows_of(client, "s", 11)["t"][10] == pytest.approx(20 * 0.0333667, abs=1e-6)


def test_a_session_of_another_program(tmp_path: Path) -> None:
    """It has no stamps, and numbers that JavaScript cannot hold."""
    nothing = dict.fromkeys(("captured_at", "completed_at"), [None] * 420)
    path = Path(shutil.copy(sample.SESSION, tmp_path / "s.parquet"))
    edited(path, {"frame": range(2**60, 2**60 + 420), **nothing})
    with served(tmp_path) as client:
        card = client.json("/api/card", s="s")
        rows = rows_of(client, "s", 3)
        assert (card["clock"], card["n"]) == ("media_time_s", 420)
        assert rows["frame"] == [str(2**60 + i) for i in range(3)]
        assert rows["t"] == [pytest.approx(i * 1001 / 30000, abs=1e-9) for i in range(3)]
        assert client.json("/api/at", s="s", t=10 * 1001 / 30000) == {"i": 10}
        assert client.json("/api/at", s="s", frame=2**60 + 7) == {"i": 7}
        edited(Path(shutil.copy(path, tmp_path / "none.parquet")), {"media_time_s": [None] * 420})
        assert client.json("/api/rows", s="none", **{"from": 5, "to": 7})["t"] == [0.2, 0.24]
        assert client.json("/api/at", s="none", t=0.21) == {"i": 5}


def test_a_recording_grows_and_is_sealed(tmp_path: Path) -> None:
    journal, sealed = tmp_path / "s.arrows", tmp_path / "s.parquet"
    rows = make_rows(30)
    writer = JournalWriter(journal, new_metadata("s"))
    writer.write(rows[:10])
    with served(tmp_path) as client:
        (facts,) = client.json("/api/sessions")["sessions"]
        before = client.json("/api/card", s="s")
        assert (facts["state"], before["state"]) == ("being recorded", "being recorded")
        assert before["n"] == 10
        writer.write(rows[10:])
        after = grown(client, 30)
        assert after["version"] != before["version"]
        assert rows_of(client, "s", 30)["frame"] == [*range(30)]
        writer.end(CLOSING)
        writer.close()
        seal(Journal.open(journal), sealed)
        journal.unlink()
        # At once, though the journal is still open here.
        assert rows_of(client, "s", 30)["frame"] == [*range(30)]
        assert client.json("/api/sql", s="s", q="SELECT count(*) FROM frames")["rows"] == [[30]]
        write_session(tmp_path / "t.parquet", make_rows(4), new_metadata("s"))
        os.replace(tmp_path / "t.parquet", sealed)
        assert grown(client, 4)["state"] == "sealed"


def grown(client: Client, count: int) -> dict[str, Any]:
    """Return the card once it has so many rows."""
    while (card := client.json("/api/card", s="s"))["n"] != count:
        pass
    return dict(card)


def test_names(tmp_path: Path) -> None:
    """They are as short as they can be, and old links still lead to the same recording."""
    for name in ("monday/door", "tuesday/door", "tuesday/yard", "a/b/c"):
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.SESSION, path)
    folders = [tmp_path / "monday", tmp_path / "tuesday", tmp_path / "a" / "b"]
    write_journal(tmp_path / "a" / "b" / "new.arrows", make_rows(3), end=False)
    with served(*folders) as client:
        names = [each["s"] for each in client.json("/api/sessions")["sessions"]]
        assert sorted(names) == ["c", "monday/door", "new", "tuesday/door", "yard"]
        for name in ("yard", "tuesday/yard", "yard.parquet", "b/c", "c.arrows"):
            assert client.json("/api/card", s=name)["s"] in names
            path = client.server.recordings.path_of(name)
            assert path.stem == name.rpartition("/")[2].partition(".")[0], name
        assert client.refused("/api/card", s="door")[0] == 404
        assert [e["s"] for e in client.json("/api/sessions", q="MONDAY")["sessions"]] == [
            "monday/door"
        ]


def test_a_damaged_session_is_listed(tmp_path: Path) -> None:
    shutil.copy(sample.SESSION, tmp_path / "good.parquet")
    (tmp_path / "bad.parquet").write_bytes(sample.SESSION.read_bytes()[:-1000])
    with served(tmp_path) as client:
        by_name = {each["s"]: each for each in client.json("/api/sessions")["sessions"]}
        assert by_name["bad"]["problem"]
        status, error = client.refused("/api/card", s="bad")
        assert (status, "bad.parquet" in error) == (422, True)
        with pytest.raises(DgrecError):
            dgrec.open(tmp_path / "bad.parquet")
        assert client.json("/api/card", s="good")["labels"][0]["label"] == "face"


def test_a_file_that_goes_while_it_is_read(tmp_path: Path) -> None:
    """What fails on a file that was replaced is done again, whoever has noticed that first."""
    (tmp_path / "other").mkdir()
    path = write_session(tmp_path / "s.parquet", make_rows(3))
    recordings = Recordings([path])
    seen = []

    def read(opened: OpenedSession) -> int:
        seen.append(opened.count)
        if len(seen) == 1:
            write_session(tmp_path / "other" / "s.parquet", make_rows(5)).replace(path)
            wait_until(lambda: recordings.read("s", lambda other: other.count) == 5)
            raise SessionError("the file is gone")
        return opened.count

    assert recordings.read("s", read) == 5
    assert seen == [3, 5]
    recordings.close()


def test_positions_that_mean_something_else(tmp_path: Path) -> None:
    """A page is refused once its positions are others: parts were removed, or it is another one."""
    rows = make_rows(30)
    for number in (1, 2, 3):
        part = new_metadata(part={"set_id": "a-set", "number": number})
        write_session(
            part_path(tmp_path / "s.parquet", number), rows[number * 10 - 10 :][:10], metadata=part
        )
    with served(tmp_path) as client:
        card = client.json("/api/card", s="s")
        known = f"{card['id']},{card['n'] - 1},{card['last_frame']}"
        asked = {"s": "s", "from": 0, "to": 30}
        assert len(client.json("/api/rows", known=known, **asked)["frame"]) == card["n"]
        for other in ("", f"{card['id']},-1,"):
            client.json("/api/rows", known=other, **asked)
        part_path(tmp_path / "s.parquet", 1).unlink()
        wait_until(lambda: client.json("/api/card", s="s")["n"] < card["n"], pause_s=0.1)
        wrong = (known, "another,-1,", f"{card['id']},x,1", f"{card['id']},99999,1", "x", ",,")
        for other in wrong:
            assert client.refused("/api/rows", known=other, **asked)[0] == 409, other
        assert client.ask("/api/picture", s="s", i=0, known=known)[0] == 409
        assert client.ask("/video", s="s", k=0, known=known)[0] == 409
        assert client.refused("/api/sql", s="s", q="SELECT 1", known=known)[0] == 409
        assert client.refused("/api/matches", q="true", known=known, **asked)[0] == 409


def test_files_that_were_removed_take_no_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgrec.replay.viewing.server._TIDY_S", 0.1)
    monkeypatch.setattr("dgrec.replay.viewing.statement_process._IDLE_S", 0.1)
    added(tmp_path / "s.parquet", range(8), [n / 25 for n in range(8)], video="raw")

    def opened() -> int:
        """Return how many of them are open in this process, and in that of statements."""
        process, count = psutil.Process(), 0
        for each in (process, *process.children()):
            for descriptor in Path(f"/proc/{each.pid}/fd").glob("*"):
                with contextlib.suppress(OSError):  # it was closed just now
                    count += str(descriptor.readlink()).startswith(str(tmp_path))
        return count

    with served(tmp_path) as client:
        rows_of(client, "s", 8)
        client.json("/api/marks", s="s")
        client.json("/api/pair", a="s", b="s")
        assert client.ask("/api/picture", s="s", i=3)[0] == 200
        assert client.json("/api/sql", s="s", q="SELECT 1")["rows"] == [[1]]
        assert opened() > 5
        for file in tmp_path.iterdir():
            file.unlink()
        wait_until(lambda: not opened(), pause_s=0.1)


def test_two_pages_that_list_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that sorts out what is not there any more stops where another one adds some."""
    for name in "abc":
        write_session(tmp_path / f"{name}.parquet", make_rows(2))
    recordings = Recordings([tmp_path])
    recordings.listed()
    names = recordings.names()
    monkeypatch.setattr(recordings, "names", lambda: names)
    late = write_session(tmp_path / "late.parquet", make_rows(2))
    real, looked_up = PurePath.__hash__, []

    def look_up(path: PurePath) -> int:
        if recordings._lock.locked() and late not in looked_up:
            looked_up.append(path)
            if len(looked_up) == len(names) + 1:  # they are known, and the first is sorted out
                looked_up.append(late)
                recordings._facts(late)  # which the other thread does
        return real(path)

    monkeypatch.setattr(PurePath, "__hash__", look_up)
    assert [name for name, _ in recordings.listed()] == ["a", "b", "c"]
    assert late in looked_up
    recordings.close()
