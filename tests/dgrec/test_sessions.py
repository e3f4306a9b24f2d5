"""Many sessions at once: what names them, what is left out, and what SQL sees of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dgrec
from dgrec.errors import DamagedSessionError, NotASessionError
from dgrec.format import Journal, JournalWriter, seal
from dgrec.paths import part_path
from dgrec.session import Session, discovery, names_something, open_sessions
from dgrec.session import session as session_module
from tests.factory import make_rows, new_metadata, write_journal, write_session


def write_part(
    output: Path, number: int, set_id: str, *, start: int, size: int = 5, sealed: bool = True
) -> Path:
    path = part_path(output, number)
    part = {"number": number, "set_id": set_id, "first_frame": start}
    writer = JournalWriter(
        path.with_suffix(".arrows"),
        new_metadata(path.stem, part=part),
        durability="never",
        first_frame=start,
    )
    writer.write(make_rows(start + size)[start:])
    if sealed:
        writer.end({"end_reason": "split", "totals": {"frames": size}})
    writer.close()
    if not sealed:
        return writer.path
    seal(Journal.open(writer.path), path)
    writer.path.unlink()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three sessions of 10, 20 and 30 frames (the last a journal), one in parts, and others."""
    write_session(tmp_path / "a.parquet", make_rows(10), new_metadata("a"))
    write_session(tmp_path / "b.parquet", make_rows(20), new_metadata("b"))
    write_journal(tmp_path / "c.arrows", make_rows(30), new_metadata("c"), end=False)
    for number, start in enumerate((0, 5, 10), 1):
        write_part(tmp_path / "d.parquet", number, "set-d", start=start, sealed=number < 3)
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / ".hidden.parquet").write_bytes(b"")
    return tmp_path


def opened(*paths: object) -> tuple[dict[str, int], list[str]]:
    """Return (frames of each session by its file's name, what was left out)."""
    lines: list[str] = []
    sessions = open_sessions([str(path) for path in paths], lines.append)
    found = {session.path.name: len(session) for session in sessions}
    assert len(found) == len(sessions)
    for session in sessions:
        session.close()
    return found, lines


ALL = {"a.parquet": 10, "b.parquet": 20, "c.arrows": 30, "d.parquet": 15}


@pytest.mark.slow
def test_one_path_need_not_be_in_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not its characters: of "./s.parquet" the first one is a folder with sessions."""
    monkeypatch.chdir(tmp_path)
    for name in ("s", "t"):
        write_session(tmp_path / f"{name}.parquet", make_rows(3), new_metadata(name))
    for path in ("./s.parquet", Path("s.parquet")):
        assert [session.path.name for session in open_sessions(path)] == ["s.parquet"]


def test_a_folder_is_its_sessions(folder: Path) -> None:
    assert opened(folder) == (ALL, [])


def test_a_folder_does_not_reach_into_folders_and_a_glob_can(folder: Path) -> None:
    (folder / "deep" / "er").mkdir(parents=True)
    write_session(folder / "deep" / "er" / "e.parquet", make_rows(2), new_metadata("e"))
    assert opened(folder)[0] == ALL
    found = opened(f"{folder}/**/*.parquet")[0]
    assert found["e.parquet"] == 2
    assert "c.arrows" not in found


def test_globs(folder: Path) -> None:
    assert opened(f"{folder}/[ab].parquet")[0] == {"a.parquet": 10, "b.parquet": 20}
    assert opened(f"{folder}/*") == (ALL, [])


def test_each_file_counts_once(folder: Path) -> None:
    (folder / "link.parquet").symlink_to(folder / "a.parquet")
    found, lines = opened(folder / "a.parquet", folder, f"{folder}/a*", folder / "link.parquet")
    assert found == ALL
    assert lines == []


def test_a_copy_is_named_and_left_out(folder: Path) -> None:
    shutil.copy(folder / "a.parquet", folder / "z.parquet")
    found, (line,) = opened(folder)
    assert found == ALL
    assert "z.parquet: is the same session as" in line
    assert "a.parquet; left out" in line


def test_a_sealed_file_comes_before_its_journal(folder: Path) -> None:
    write_journal(folder / "s.arrows", make_rows(7), new_metadata("s"), end=False)
    seal(Journal.open(folder / "s.arrows"), folder / "s.parquet")
    found, (line,) = opened(folder)
    assert found == {**ALL, "s.parquet": 7}
    assert "s.arrows: is the same session as" in line


# --- while they are recorded ---


def sealed(journal: Path) -> Path:
    """Seal a journal, as its recorder does."""
    path = journal.with_suffix(".parquet")
    seal(Journal.open(journal), path)
    journal.unlink()
    return path


def after(
    monkeypatch: pytest.MonkeyPatch, of: Any, name: str, change: Callable[[], object]
) -> list[None]:
    """Do something once, after the first call of a function; return whether it was done."""
    done: list[None] = []
    real = getattr(of, name)

    def work(*arguments: Any) -> Any:
        found = real(*arguments)
        if not done:
            done.append(None)
            change()
        return found

    monkeypatch.setattr(of, name, work)
    return done


@pytest.mark.parametrize("moment", ["_files_in", "_gather"])
def test_a_journal_that_is_sealed_before_it_is_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    done = after(monkeypatch, discovery, moment, lambda: sealed(folder / "c.arrows"))
    found = {name.replace("arrows", "parquet"): count for name, count in ALL.items()}
    assert opened(folder) == (found, [])
    assert done


@pytest.mark.parametrize("moment", ["_gather", "session_file"])
def test_a_name_whose_journal_is_sealed_before_it_is_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    of: Any = discovery if moment == "_gather" else session_module
    done = after(monkeypatch, of, moment, lambda: sealed(folder / "c.arrows"))
    if moment == "_gather":
        assert opened(folder / "c") == ({"c.parquet": 30}, [])
    else:
        with dgrec.open(folder / "c") as session:
            assert session.path == folder / "c.parquet"
            assert len(session) == 30
    assert done


def begin_part(folder: Path) -> None:
    write_part(folder / "d.parquet", 4, "set-d", start=15, sealed=False)


@pytest.mark.parametrize("pattern", ["", "*"])
@pytest.mark.parametrize("moment", ["_candidates", "_gather"])
@pytest.mark.parametrize(
    ("change", "frames"),
    [
        (lambda folder: sealed(folder / "d-0003.arrows"), 15),
        (begin_part, 20),
        (lambda folder: (folder / "d-0001.parquet").unlink(), 10),
    ],
    ids=["sealed", "begun", "removed"],
)
def test_parts_that_are_sealed_begun_or_removed_meanwhile(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    pattern: str,
    moment: str,
    change: Callable[[Path], object],
    frames: int,
) -> None:
    done = after(monkeypatch, discovery, moment, lambda: change(folder))
    assert opened(folder / pattern) == ({**ALL, "d.parquet": frames}, [])
    assert done


# --- parts -------------------------------------------------------------------------------------


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("d-*"))


def test_all_parts_are_one_session(folder: Path) -> None:
    assert opened(*parts(folder)) == ({"d.parquet": 15}, [])
    assert opened(folder / "d.parquet")[0] == {"d.parquet": 15}
    assert opened(folder / "d")[0] == {"d": 15}
    assert opened(f"{folder}/d-*") == ({"d.parquet": 15}, [])


def test_some_parts_are_those_and_no_others(folder: Path) -> None:
    assert opened(*parts(folder)[:2])[0] == {"d-0001.parquet": 5, "d-0002.parquet": 5}
    assert opened(parts(folder)[1])[0] == {"d-0002.parquet": 5}


def test_the_only_part_is_the_recording_unless_named_itself(tmp_path: Path) -> None:
    part = write_part(tmp_path / "d.parquet", 1, "set-d", start=0, sealed=False)
    assert opened(tmp_path)[0] == {"d.parquet": 5}
    assert opened(part)[0] == {"d-0001.arrows": 5}


def test_parts_beside_their_recording_do_not_count_twice(folder: Path) -> None:
    found, _ = opened(folder / "d.parquet", parts(folder)[0])
    assert found == {"d.parquet": 15}
    found, _ = opened(parts(folder)[0], folder / "d.parquet")
    assert found == {"d.parquet": 15}


def test_a_damaged_part_is_told_by_its_recording(folder: Path) -> None:
    (folder / "d-0002.parquet").write_bytes(b"PAR1")
    lines: list[str] = []
    sessions = {s.path.name: s for s in open_sessions([folder], lines.append)}
    assert lines == []
    assert len(sessions["d.parquet"]) == 10
    assert "part 2 (d-0002.parquet) cannot be read" in sessions["d.parquet"].damage[0]


def test_a_session_that_is_named_like_a_part_is_none(folder: Path) -> None:
    write_session(folder / "d-0004.parquet", make_rows(3), new_metadata("other"))
    found, lines = opened(folder)
    assert found == {**ALL, "d-0004.parquet": 3}
    assert lines == []


# --- what cannot be read -----------------------------------------------------------------------


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)


BAD: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello " * 9),
    "foreign": lambda path: pq.write_table(pa.table({"x": [1]}), path),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "flipped": _flip,
    "unreadable": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_file_is_named_and_left_out(folder: Path, kind: str) -> None:
    bad = folder / "a.parquet"
    BAD[kind](bad)
    found, lines = opened(folder / "a.parquet", folder)
    assert found == {name: frames for name, frames in ALL.items() if name != "a.parquet"}
    (line,) = lines
    assert line.startswith(f"{bad}: ")
    assert line.endswith("; left out")
    assert "\n" not in line


@pytest.mark.slow
def test_without_somebody_to_tell_it_is_a_warning(folder: Path) -> None:
    BAD["cut"](folder / "a.parquet")
    with pytest.warns(UserWarning, match=r"a\.parquet: .*left out") as caught:
        open_sessions([folder])
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"a\.parquet: .*left out") as caught:
        dgrec.connect(folder).close()
    assert caught[0].filename == __file__


def test_nothing_that_can_be_read_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotASessionError, match="No such file"):
        open_sessions([folder / "missing.parquet"])
    for name in ("a.parquet", "b.parquet"):
        BAD["cut"](folder / name)
    with pytest.raises(DamagedSessionError, match=r"a\.parquet"):
        open_sessions([folder / "a.parquet"])
    with pytest.raises(NotASessionError, match=r"none of 2 can be read; the first: .*a\.parquet"):
        open_sessions([folder / "a.parquet", folder / "b.parquet"])
    (tmp_path / "none").mkdir()
    with pytest.raises(NotASessionError, match="folder without sessions"):
        open_sessions([tmp_path / "none"])
    with pytest.raises(NotASessionError, match="matches no session"):
        open_sessions([f"{folder}/x*.parquet"])
    with pytest.raises(NotASessionError, match="no session is named"):
        open_sessions([])


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("a.parquet", True), ("d", True), ("d.parquet", True), ("*.arrows", True), ("", True),
     ("x*", False), ("SELECT 1", False), ("SELECT '\0'", False), ("x" * 5000, False)],
)  # fmt: skip
def test_what_names_something(folder: Path, name: str, is_one: bool) -> None:
    assert names_something(f"{folder}/{name}") is is_one


# --- SQL ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sql_over_all_of_them(folder: Path) -> None:
    connection = dgrec.connect(folder)
    rows = connection.sql(
        "SELECT name, count(*), min(frame), max(frame) FROM frames JOIN sessions USING (session_id)"
        " GROUP BY name ORDER BY name"
    ).fetchall()
    assert rows == [("a", 10, 0, 9), ("b", 20, 0, 19), ("c", 30, 0, 29), ("d", 15, 0, 14)]
    total = sum(len(r.results) for size in (10, 20, 30, 15) for r in make_rows(size))
    assert connection.sql("SELECT count(*) FROM detections").fetchall() == [(total,)]
    # It is the user's own connection.
    connection.sql("CREATE TABLE mine AS FROM frames")
    connection.close()


@pytest.mark.slow
def test_rows_come_in_the_order_of_the_sessions(folder: Path) -> None:
    connection = dgrec.connect(folder / "b.parquet", folder / "a.parquet", folder / "d")
    frames = [row[0] for row in connection.sql("SELECT frame FROM frames").fetchall()]
    assert frames == [*range(20), *range(10), *range(15)]
    connection.close()


def _rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a session again as an earlier or a later dgrec might have."""
    table = pq.read_table(path)
    metadata = {b"dgrec": pq.read_metadata(path).metadata[b"dgrec"]}
    pq.write_table(change(table).replace_schema_metadata(metadata), path)


def _without(table: pa.Table, names: Sequence[str]) -> pa.Table:
    return table.drop_columns(list(names))


@pytest.mark.slow
def test_a_column_missing_somewhere_is_null_there(folder: Path) -> None:
    _rewritten(folder / "a.parquet", lambda t: _without(t, ["video_frame", "inference_ms"]))
    _rewritten(folder / "b.parquet", lambda t: t.append_column("later", pa.array(["x"] * len(t))))
    connection = dgrec.connect(folder)
    rows = connection.sql(
        "SELECT name, count(*), count(inference_ms), count(later) FROM frames "
        "JOIN sessions USING (session_id) GROUP BY name ORDER BY name"
    ).fetchall()
    assert rows == [("a", 10, 0, 0), ("b", 20, 20, 20), ("c", 30, 30, 0), ("d", 15, 15, 0)]
    connection.close()


@pytest.mark.slow
def test_a_column_of_another_type_takes_one_that_holds_both(folder: Path) -> None:
    def narrower(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index("latency_ms")
        return table.set_column(index, "latency_ms", table["latency_ms"].cast(pa.float32()))

    def fewer_fields(table: pa.Table) -> pa.Table:
        rows = [
            [{k: v for k, v in d.items() if k != "track_id"} for d in row]
            for row in table["detections"].to_pylist()
        ]
        old = table.schema.field("detections").type.value_type
        kept = pa.list_(pa.struct([f for f in old if f.name != "track_id"]))
        index = table.schema.get_field_index("detections")
        return table.set_column(index, "detections", pa.array(rows, kept))

    _rewritten(folder / "a.parquet", narrower)
    _rewritten(folder / "b.parquet", fewer_fields)
    connection = dgrec.connect(folder)
    assert connection.sql("SELECT typeof(latency_ms) FROM frames LIMIT 1").fetchall() == [
        ("DOUBLE",)
    ]
    rows = connection.sql(
        "SELECT name, count(label), count(track_id), max(x_max) FROM detections "
        "JOIN sessions USING (session_id) GROUP BY name ORDER BY name"
    ).fetchall()
    for name, size in (("a", 10), ("b", 20), ("c", 30), ("d", 15)):
        found = [d for row in make_rows(size) for d in row.results]
        assert (name, len(found), 0, max(d["bbox"][2] for d in found)) in rows
    connection.close()


@pytest.mark.slow
def test_hundreds_are_one_scan(tmp_path: Path) -> None:
    for number in range(30):
        write_session(tmp_path / f"s{number:03}.parquet", make_rows(3), new_metadata(f"s{number}"))
    connection = dgrec.connect(tmp_path)
    plan = "".join(row[1] for row in connection.sql("EXPLAIN FROM frames").fetchall())
    assert plan.count("READ_PARQUET") + plan.count("PARQUET_SCAN") == 1
    ids = connection.sql("SELECT session_id, count(*) FROM frames GROUP BY ALL").fetchall()
    expected = {Session(path).id: 3 for path in tmp_path.iterdir()}
    assert dict(ids) == expected
    assert len(expected) == 30
    connection.close()


@pytest.mark.slow
def test_a_relation_goes_to_other_libraries(folder: Path) -> None:
    with dgrec.open(folder / "a.parquet") as session:
        relation = session.sql("SELECT frame, label FROM detections ORDER BY ALL")
        table = relation.to_arrow_table()
        assert isinstance(table, pa.Table)
        assert relation.filter("frame > 3").aggregate("count(*)").fetchall()
        json.dumps(table.to_pylist())


def test_an_empty_name_is_not_this_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(NotASessionError, match="the name of a session is empty"):
        open_sessions([""])


def test_of_two_journals_of_a_session_the_one_with_more_rows_is_read(tmp_path: Path) -> None:
    whole = write_journal(tmp_path / "b.arrows", make_rows(60), batch=10, end=False)
    cut = tmp_path / "a.arrows"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    told: list[str] = []
    (session,) = open_sessions([tmp_path], told.append)
    assert session.path == whole
    assert any(line.startswith(f"{cut}: is the same session as") for line in told)


def test_a_recording_is_named_by_its_output_before_it_is_sealed(tmp_path: Path) -> None:
    write_journal(tmp_path / "live.arrows", make_rows(3), end=False)
    with pytest.raises(NotASessionError, match=r"is not sealed; name its journal, live\.arrows"):
        open_sessions([tmp_path / "live.parquet"])


def test_a_column_of_another_kind_is_named_and_its_file_left_out(folder: Path) -> None:
    stored = pq.read_table(folder / "a.parquet")
    texts = stored.column("frame").cast(pa.string())
    changed = stored.set_column(stored.schema.get_field_index("frame"), "frame", texts)
    kept = {b"dgrec": pq.read_metadata(folder / "a.parquet").metadata[b"dgrec"]}
    pq.write_table(changed.replace_schema_metadata(kept), folder / "a.parquet")
    told: list[str] = []
    sessions = open_sessions([folder / "a.parquet", folder / "b.parquet"], told.append)
    assert [session.path.name for session in sessions] == ["b.parquet"]
    (line,) = told
    assert "a.parquet: not a dgrec session (column 'frame' is string, not int64)" in line


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a[1].parquet", "a?.parquet", "*.parquet", "a[[1].parquet"])
def test_a_name_that_is_a_pattern_stands_for_that_file_only(tmp_path: Path, name: str) -> None:
    write_session(tmp_path / "a1.parquet", make_rows(10))
    asked = write_session(tmp_path / name, make_rows(3))
    with dgrec.open(asked) as session:
        assert session.sql("SELECT count(*) FROM frames").fetchall() == [(3,)]
        assert session.sql("SELECT frames FROM session_throughput").fetchall() == [(3,)]


# --- clips -------------------------------------------------------------------------------------


def write_clip(
    path: Path, of: str, *ranges: tuple[int, int], inner: dict[str, Any] | None = None
) -> Path:
    """Write a clip of the frames from ``start`` to before ``end`` of each of ``ranges``."""
    clip: dict[str, Any] = {"session_id": of, "ranges": []}
    count = 0
    for start, end in ranges:
        clip["ranges"].append({"first_frame": count, "frames": end - start, "from_frame": start})
        count += end - start
    if inner is not None:
        clip["clip"] = inner
    return write_session(path, make_rows(count), new_metadata(path.stem, clip=clip))


def clip_facts(path: Path) -> dict[str, Any]:
    with Session(path) as session:
        facts: dict[str, Any] = session.metadata["clip"]
        return facts


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """One recording of 20 frames, and clips: of it, of that clip, and of what is not there."""
    original = write_session(tmp_path / "a.parquet", make_rows(20), new_metadata("a"))
    with Session(original) as session:
        first = write_clip(tmp_path / "b.parquet", session.id, (2, 5), (10, 14))
    with Session(first) as session:
        write_clip(tmp_path / "c.parquet", session.id, (2, 6), inner=clip_facts(first))
    outer = {"session_id": "gone", "ranges": [{"first_frame": 0, "frames": 9, "from_frame": 100}]}
    write_clip(tmp_path / "d.parquet", "gone", (100, 108))
    write_clip(tmp_path / "e.parquet", "gone", (107, 110))  # frame 107 is in d, too
    write_clip(tmp_path / "f.parquet", "gone", (108, 112))
    write_clip(tmp_path / "g.parquet", "f2", (0, 3), inner=outer)  # of a clip of the same
    return tmp_path


def test_a_folder_counts_each_recorded_frame_once(clips: Path) -> None:
    found, lines = opened(clips)
    assert found == {"a.parquet": 20, "d.parquet": 8, "f.parquet": 4}
    assert [line.partition(": ")[0] for line in lines] == [
        str(clips / name) for name in ("b.parquet", "c.parquet", "e.parquet", "g.parquet")
    ]
    assert lines[0].endswith(f": is a clip with frames of {clips / 'a.parquet'}; left out")


def test_clips_count_where_they_are_asked_for(clips: Path) -> None:
    everything = open_sessions([clips], with_clips=True)
    assert [session.path.stem for session in everything] == list("abcdefg")
    for session in everything:
        session.close()
    # Named, in whatever order, and by a folder of which nothing else is there.
    found, lines = opened(clips, clips / "b.parquet")
    assert (found["b.parquet"], len(lines)) == (7, 3)
    (clips / "a.parquet").unlink()
    # b and c have frames in common: 4 of b's are those of c.
    assert set(opened(clips)[0]) == {"b.parquet", "d.parquet", "f.parquet"}


@pytest.mark.slow
def test_sessions_say_what_they_are_clips_of(clips: Path) -> None:
    with Session(clips / "a.parquet") as session:
        original = session.id
    connection = dgrec.connect(clips, with_clips=True)
    found = connection.sql("SELECT name, clip_of FROM sessions ORDER BY name").fetchall()
    connection.close()
    gone = [(name, "gone") for name in "defg"]
    assert found == [("a", None), ("b", original), ("c", original), *gone]
    with pytest.warns(UserWarning, match="is a clip with frames of") as told:
        connection = dgrec.connect(clips)
    assert len(told) == 4
    assert connection.sql("SELECT sum(frames) FROM sessions").fetchall() == [(32,)]
    assert connection.sql("SELECT count(*) FROM frames").fetchall() == [(32,)]
    connection.close()


def test_a_clip_of_a_recording_in_parts_is_found_by_the_set(tmp_path: Path) -> None:
    for number, start in enumerate((0, 5), 1):
        write_part(tmp_path / "s.parquet", number, "set-s", start=start)
    write_clip(tmp_path / "x.parquet", "set-s", (3, 7))
    with Session(tmp_path / "s-0002.parquet") as part:
        write_clip(tmp_path / "y.parquet", part.id, (6, 8))
    assert opened(tmp_path)[0] == {"s.parquet": 10}


@pytest.mark.parametrize(
    "clip",
    [{}, {"session_id": 7}, {"ranges": "x"}, {"ranges": [1, {"frames": "3"}], "clip": 5}],
)
def test_what_a_clip_says_wrongly_breaks_nothing(tmp_path: Path, clip: dict[str, Any]) -> None:
    for name in ("a", "b"):
        write_session(tmp_path / f"{name}.parquet", make_rows(3), new_metadata(name, clip=clip))
    assert len(opened(tmp_path)[0]) == 2


# --- a killed recorder ---------------------------------------------------------------------------


def test_what_was_lost_before_a_crash_is_found(tmp_path: Path) -> None:
    rows = make_rows(12)
    rows[3].dropped_queue, rows[5].dropped_camera, rows[6].skipped_before = 4, 2, 9
    journal = write_journal(tmp_path / "a.arrows", rows, new_metadata("a"), end=False)
    write_session(tmp_path / "b.parquet", rows, new_metadata("b"), end=False)
    connection = dgrec.connect(journal, tmp_path / "b.parquet")
    found = connection.sql(
        "SELECT name, end_reason, frames, detections, skipped, dropped, ended_at "
        "FROM sessions WHERE dropped > 0 ORDER BY name"
    ).fetchall()
    (last,) = connection.sql("SELECT max(completed_at) FROM frames").fetchall()
    connection.close()
    assert [row[:-1] for row in found] == [
        ("a", None, 12, 12, 9, 6),
        ("b", "recovered", 12, 12, 9, 6),
    ]
    assert [row[-1] for row in found] == [*last, *last]


def test_what_is_being_recorded_has_losses_so_far_and_no_end(tmp_path: Path) -> None:
    rows = make_rows(5)
    rows[3].dropped_queue = 4
    writer = JournalWriter(tmp_path / "a.arrows", new_metadata("a"), durability="never")
    writer.write(rows)
    connection = dgrec.connect(tmp_path)
    found = connection.sql("SELECT frames, dropped, ended_at FROM sessions").fetchall()
    connection.close()
    writer.close()
    assert found == [(5, 4, None)]
