"""Arguments of dgrec's functions: one item for a list, a session for its path, mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dgrec
from dgrec import ConfigError, Output, QueryError, Recorder, Session
from tests.factory import make_rows, write_session
from tests.permissions import permissions


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_session(tmp_path_factory.mktemp("given") / "s.parquet", make_rows(20))


@pytest.mark.slow
def test_one_item_is_a_list_of_it(path: Path) -> None:
    """A list of texts is not that of its letters."""
    with dgrec.open(path) as session:
        assert dgrec.whatif(session, 0.95) == dgrec.whatif(session, [0.95])
        assert dgrec.whatif(session, nms=0.3) == dgrec.whatif(session, nms=[0.3])
        tracker = "track_buffer=30"
        one, listed = (dgrec.whatif(session, trackers=each) for each in (tracker, [tracker]))
        assert one == listed
        (frames,) = session.batches("frame")
        assert frames.column_names == ["frame"]
        session.check("frame")


def test_outputs_are_one_or_any_that_can_be_iterated(tmp_path: Path) -> None:
    seen: list[str] = []

    class Named(Output):
        name = "named"

        def __init__(self, word: str) -> None:
            self._word = word

        def frame(self, row: Any, result: Any) -> None:
            seen.append(self._word)

    with Recorder(tmp_path / "one.parquet", outputs=Named("one")) as recorder:
        recorder.add([])
    with Recorder(tmp_path / "two.parquet", outputs=map(Named, "ab")) as recorder:  # type: ignore[arg-type]
        recorder.add([])
    assert sorted(seen) == ["a", "b", "one"]


@pytest.mark.slow
def test_a_session_stands_for_its_path(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the program's folder is by now."""
    monkeypatch.chdir(path.parent)
    with dgrec.open(path.name) as session:
        monkeypatch.chdir(tmp_path)
        assert dgrec.accuracy(session, truth=session).wrong == 0
        assert dgrec.whatif(session, truth=session).outcomes[0].false_positives == 0
        with dgrec.open(session) as again:
            assert again.id == session.id
        (found,) = dgrec.open_sessions(session)
        (other,) = dgrec.open_sessions([session])
        assert found.id == other.id == session.id
        found.close()
        other.close()
        with dgrec.connect(session) as connection:
            assert connection.sql("SELECT count(*) FROM frames").fetchall() == [(20,)]
        models = [dgrec.model(each, match="order") for each in (session, path)]
        assert models[0].label_dictionary == models[1].label_dictionary
        with pytest.raises(dgrec.VideoError, match="has no pictures to give"):
            dgrec.camera(session)
        with pytest.raises(dgrec.OutputError, match="is the session itself"):
            dgrec.export(session, session, "coco", overwrite=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 5, b"s.parquet", {"s.parquet"}])
@pytest.mark.parametrize(
    "call",
    [
        dgrec.open,
        dgrec.whatif,
        dgrec.model,
        dgrec.camera,
        lambda value: dgrec.accuracy(value, truth="truth.json"),
        lambda value: dgrec.compare(value, value),
        lambda value: dgrec.export(value, "out.json", "coco"),
    ],
)
def test_what_is_no_session_is_named(call: Callable[[Any], Any], value: object) -> None:
    with pytest.raises(TypeError) as raised:
        call(value)
    assert str(raised.value) == f"a session is a path, or what dgrec.open returns, not {value!r}"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, _: dgrec.whatif(s, 0.5, truth=5), "truth: 5 is not a path"),
        (lambda s, _: dgrec.whatif(s, "0.5"), "'0.5' is not a finite number"),
        (lambda s, _: dgrec.whatif(s, None), "thresholds: None is not a number, or a list of them"),
        (lambda s, _: dgrec.whatif(s, trackers=3), "trackers: 3 is not a text, or a list of them"),
        (lambda s, _: dgrec.whatif(s, trackers=[3]), "trackers: 3 is not a text"),
        (lambda s, _: dgrec.accuracy(s, truth=None), "truth: None is not a path"),
        (lambda *_: dgrec.open_sessions(3), "paths: 3 is not a path, or a list of them"),
        (lambda *_: dgrec.open_sessions([3]), "paths: 3 is not a path"),
        (lambda *_: dgrec.connect(["s.parquet"]), "paths: ['s.parquet'] is not a path"),
        (lambda s, _: next(s.batches([5])), "columns: 5 is not a text"),
        (lambda s, _: s.pixels(5), "video: 5 is not a path"),
        (lambda s, _: dgrec.export(s, None, "coco"), "output: None is not a path"),
        (lambda s, p: dgrec.export(s, p / "a.json", video=5), "video: 5 is not a path"),
        (lambda s, p: dgrec.export(s, p / "a.csv", every="2"), "every: '2' is not a whole number"),
        (lambda s, p: dgrec.export(s, p / "a.csv", min_score="1"), "min_score: '1' is not a numb"),
        (lambda s, p: dgrec.export(s, p / "a.csv", redact=5), "redact: 5 is not a label, or a li"),
        (lambda s, p: dgrec.export(s, p / "a.csv", where=5), "where: 5 is not a text"),
        (lambda s, p: dgrec.export(s, p / "a.csv", detections_where=5), "where: 5 is not a text"),
        (lambda s, p: dgrec.export(s, p / "a.csv", split={"a": 1}), "split: {'a': 1} is not a te"),
        (lambda s, p: dgrec.import_(5, p / "a"), "file: 5 is not a path"),
        (lambda s, p: dgrec.import_(s, None), "output: None is not a path"),
        (lambda s, p: dgrec.import_(s, p / "a", video=5), "video: 5 is not a path"),
        (lambda s, p: dgrec.import_(s, p / "a", size=640), "size: 640 is not a pair of numbers"),
        (lambda s, p: dgrec.import_(s, p / "a", size="64x48"), "size: '64x48' is not a pair of n"),
        (lambda s, p: dgrec.import_(s, p / "a", fps="30"), "fps: '30' is not a number"),
        (lambda s, p: dgrec.import_(s, p / "a", frames=3.5), "frames: 3.5 is not a whole number"),
        (lambda s, p: dgrec.import_(s, p / "a", labels=["a"]), "labels: ['a'] is not a dictionar"),
        (lambda s, p: dgrec.import_(s, p / "a", labels={1: 2}), "labels: 2 is not a text"),
        (lambda s, p: dgrec.import_(s, p / "a", labels={"1": "a"}), "labels: '1' is not a"),
        (
            lambda s, _: dgrec.connect(s, memory_limit="a lot"),
            "memory_limit: 'a lot' is not a",
        ),
        (lambda *_: Recorder(None), "output: None is not a path"),
        (lambda s, p: Recorder(p / "a", {"fps": 5}), "options: {'fps': 5} is not a RecordingOpti"),
        (lambda s, p: Recorder(p / "a", outputs=5), "outputs: 5 is not a dgrec.Output, or a list"),
        (lambda s, p: Recorder(p / "a", outputs=None), "outputs: None is not a dgrec.Output, or"),
        (lambda *_: dgrec.predict_stream(None, "x", output=5), "output: 5 is not a path"),
    ],
)
def test_a_value_of_another_kind_is_named(
    path: Path, tmp_path: Path, call: Callable[[Session, Path], Any], message: str
) -> None:
    with dgrec.open(path) as session, pytest.raises(ConfigError) as raised:
        call(session, tmp_path)
    assert message in str(raised.value)


def test_an_empty_name_is_not_the_current_folder() -> None:
    with pytest.raises(dgrec.NotASessionError, match=r"^the name of a session is empty$"):
        dgrec.open("")


def test_a_source_with_a_nul_is_not_said_to_be_empty() -> None:
    with pytest.raises(dgrec.SourceError, match=r"^a source's name cannot hold a NUL$"):
        dgrec.predict_stream(_Model(), "a\0b")


def test_a_side_of_a_comparison_without_sessions_is_named(path: Path) -> None:
    with pytest.raises(dgrec.SessionError, match=r"^base: no session is named$"):
        dgrec.compare([], path)
    with pytest.raises(dgrec.SessionError, match=r"^new: no session is named$"):
        dgrec.compare(path, ())


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "empty"), ("a\0b", "NUL"), ("n" * 300, "File name too long")],
    ids=["empty", "NUL", "long"],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda _, name: dgrec.open(name),
        lambda _, name: dgrec.open_sessions(name),
        lambda _, name: dgrec.model(name),
        lambda s, name: dgrec.camera(s, video=name),
        lambda s, name: s.pixels(name),
        lambda s, name: dgrec.accuracy(s, truth=name),
        lambda s, name: dgrec.export(s, name, "csv"),
        lambda s, name: dgrec.import_(name, s, overwrite=True),
        lambda s, name: dgrec.import_(s, name),
        lambda _, name: Recorder(name),
        lambda _, name: dgrec.predict_stream(_Model(), "sample", output=name),
    ],
)
def test_a_name_that_no_file_can_have_is_refused(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Session, str], Any],
    name: str,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with dgrec.open(path) as session, pytest.raises(dgrec.DgrecError) as raised:
        call(session, name)
    assert reason in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "call",
    [
        lambda name: dgrec.open(name),
        lambda name: dgrec.import_(name, name),
        lambda name: Recorder(name),
        lambda name: dgrec.predict_stream(_Model(), "sample", output=name),
    ],
)
def test_so_is_one_that_is_too_long_with_a_suffix(call: Callable[[str], Any]) -> None:
    with pytest.raises(dgrec.DgrecError, match=r"cannot be (read|written): "):
        call("n" * 250)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda _, name: dgrec.open(name), dgrec.NotASessionError),
        (lambda _, name: dgrec.open_sessions(name), dgrec.NotASessionError),
        (lambda s, name: dgrec.camera(s, video=name), dgrec.VideoError),
        (lambda s, name: s.pixels(name), dgrec.VideoError),
        (lambda s, name: dgrec.accuracy(s, truth=name), ConfigError),
        (lambda s, name: dgrec.export(s, name, "csv"), dgrec.OutputError),
        (lambda s, name: dgrec.import_(name, s), dgrec.ImportFileError),
        (lambda s, name: dgrec.import_(s, name), dgrec.OutputError),
        (lambda _, name: Recorder(name), dgrec.OutputError),
        (
            lambda _, name: dgrec.predict_stream(_Model(), "sample", output=name),
            dgrec.OutputError,
        ),
    ],
)
def test_a_folder_without_permission_is_an_error_in_one_line(
    path: Path, tmp_path: Path, call: Callable[[Session, Path], Any], error: type[Exception]
) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    refused = pytest.raises(error, match="Permission denied")
    with dgrec.open(path) as session, permissions(), refused as raised:
        call(session, folder / "a.parquet")
    assert str(raised.value).isprintable()


def test_an_impossible_name_is_left_out_of_many(path: Path) -> None:
    with pytest.warns(UserWarning, match="File name too long; left out"):
        (session,) = dgrec.open_sessions([path, "n" * 300])
    session.close()


class _Model:
    def predict_batch(self, data: Any) -> Any:
        return data


def test_parameters_of_sql_are_a_list_or_a_dictionary(path: Path) -> None:
    with dgrec.open(path) as session:
        assert session.sql("SELECT ?", ["a"]).fetchall() == [("a",)]
        assert session.sql("SELECT $a", {"a": 1}).fetchall() == [(1,)]
        for one in (5, "a"):
            with pytest.raises(QueryError, match=rf"^parameters: {one!r} is not a list of values"):
                session.sql("SELECT ?", one)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "note"),
    [
        (lambda s, _: dgrec.export(s, s.path.with_suffix(".csv")), "--overwrite is overwrite="),
        (lambda s, _: s.export(s.path.with_suffix(".csv")), "--overwrite is overwrite="),
        (lambda s, _: dgrec.import_(s.path.with_suffix(".csv"), s), "--overwrite is overwrite="),
        (lambda s, _: Recorder(s), "--overwrite is overwrite="),
        (lambda s, _: dgrec.predict_stream(1, "x", output=s, fps="a"), "--fps is fps="),
        (
            lambda _, p: Recorder(p / "a", keep_last=5),
            "--keep-last is keep_last=, --keep-total is keep_total=, --split-every is "
            "split_every=, --split-size is split_size=",
        ),
        (lambda s, _: dgrec.whatif(s.path, trackers="x"), "--tracker is trackers="),
    ],
)
def test_an_option_in_an_error_is_noted_as_the_parameter(
    path: Path, tmp_path: Path, call: Callable[[Session, Path], Any], note: str
) -> None:
    """The message itself is that of the command."""
    path.with_suffix(".csv").touch()
    with dgrec.open(path) as session, pytest.raises(dgrec.DgrecError) as raised:
        call(session, tmp_path)
    assert raised.value.__notes__ == [f"in Python, {note}"]
    assert "Python" not in str(raised.value)


def test_an_error_without_options_has_no_note(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="every: 0 is too little") as raised:
        dgrec.export(path, tmp_path / "a.csv", every=0)
    assert not hasattr(raised.value, "__notes__")
