"""`dgrec export`, and the recipes of docs/exports.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from dgrec import open as open_session
from dgrec import sample
from dgrec.errors import DgrecError
from dgrec.replay.exports import FORMATS
from tests.factory import edited, make_rows, new_metadata, write_session
from tests.replay.exports.made import numbered, tracked, with_points

PAGE = Path(__file__).parents[3] / "docs" / "exports.md"


@pytest.mark.slow
def test_an_export_says_what_was_written_and_what_was_lost(
    dgrec: Callable[..., Result], tmp_path: Path
) -> None:
    path, _ = tracked(tmp_path)
    done = dgrec("export", path, "-o", tmp_path / "set", "--format", "yolo", "--images", "none")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        str(tmp_path / "set"),
        "yolo: 30 frames, 131 detections",
    ]
    assert "yolo cannot hold scores: 131 detections" in done.stderr.splitlines()
    quiet = dgrec("export", path, "-o", tmp_path / "rows.csv", "-q")
    assert quiet.stdout == ""


@pytest.mark.slow
def test_options_reach_the_export(dgrec: Callable[..., Result], tmp_path: Path) -> None:
    path = numbered(tmp_path)
    done = dgrec(
        "export", path, "-o", tmp_path / "out.json", "--images", "png", "--start", "2",
        "--end", "10", "--every", "2", "--detections-where", "score > 0.4", "--min-score", "0.1",
        "--where", "frame != 4", "--redact", "bit", "--split", "a=0.5,b=0.5",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    for name, frames in (("a", [2, 5]), ("b", [7, 9])):
        found = json.loads((tmp_path / f"out-{name}.json").read_text())
        assert [image["id"] for image in found["images"]] == frames
        assert len(list((tmp_path / f"out-{name}.images").iterdir())) == 2


def test_standard_output_takes_one_file(dgrec: Callable[..., Result], tmp_path: Path) -> None:
    path, _ = tracked(tmp_path)
    done = dgrec("export", path, "-o", "-", "--format", "jsonl")
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 131
    assert dgrec("export", path, "-o", "-", "--format", "mot").exit_code == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["tracked.parquet"]


def test_a_folder_of_sessions_keeps_its_names(dgrec: Callable[..., Result], tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name in ("monday", "tuesday"):
        write_session(folder / f"{name}.parquet", make_rows(5))
    write_session(folder / "empty.parquet", [])
    done = dgrec("export", folder, "--all", "-o", tmp_path / "out", "--format", "csv")
    assert done.exit_code == 1
    assert "empty.parquet: no frames were recorded" in done.stderr
    names = sorted(each.name for each in (tmp_path / "out").iterdir())
    assert names == ["monday.csv", "tuesday.csv"]
    done = dgrec("export", folder, "-o", tmp_path / "out", "--format", "csv")
    assert done.exit_code != 0
    assert len(done.stderr.strip().splitlines()) <= 4
    file = tmp_path / "one.csv"
    file.write_text("")
    done = dgrec("export", *sorted(folder.glob("[mt]*.parquet")), "-o", file)
    assert done.exit_code == 1
    assert f"{file}: is a file; the exports of several sessions are in a folder" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "out.bin"), "does not say which format"),
        (("-o", "out.csv", "--split", "train=0.8"), "must add up to 1"),
        (("-o", "out.csv", "--every", "0"), "--every"),
        (("-o", "out.csv", "--min-score", "nan"), "finite"),
        (("-o", "out.csv", "--detections-where", "no_such = 1"), "no_such"),
        (("-o", "out.csv", "--where", "frame > 99"), "no frame matches"),
        (("-o", "out.csv", "--start", "99"), "past the end"),
        (("-o", "out.csv", "--redact", "person"), "--images jpg"),
        (("-o", "out", "--format", "label-studio", "--images", "png"), "takes none"),
        (("-o", "no/folder/out.csv"), "there is no folder"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    dgrec: Callable[..., Result],
    tmp_path: Path,
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, _ = tracked(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = dgrec("export", path, *arguments)
    assert done.exit_code in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.output
    assert sorted(each.name for each in tmp_path.iterdir()) == ["tracked.parquet"]


@pytest.mark.slow
def test_values_that_no_recorder_writes_end_no_format(tmp_path: Path) -> None:
    """Nulls where dgrec writes none, as another tool may."""
    path, _ = with_points(tmp_path)
    with open_session(path) as session:
        found = [session.row(i)["detections"] for i in range(len(session))]
    found[0][0]["landmarks"] = [None, {"label": None, "landmark": None}]
    found[1][0] = None
    found[2][0]["x_min"] = None
    found[3][0]["mask"] = {"x_min": None, "encoding": "bitmap:<f4", "data": b"", "width": 1}
    found[4][0] = dict.fromkeys(found[4][0])
    edited(path, {"detections": found, "width": [None] * 6, "height": [-5] * 6})
    with open_session(path) as session:
        refused = {}
        for name in FORMATS.load():
            try:
                session.export(tmp_path / name, name, images="none")
            except DgrecError as error:
                refused[name] = str(error)
    assert "what has no track" in refused.pop("mot-results")
    assert all(name.startswith(("yolo", "label-studio")) for name in refused)
    assert all("no recorded size" in reason for reason in refused.values())


def test_a_missing_library_is_one_line(
    dgrec: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = tracked(tmp_path)
    for output, module, extra in (
        ("s.mcap", "foxglove", "exports"),
        ("s.pftrace", "perfetto.trace_builder.proto_builder", "exports"),
        ("s.rrd", "rerun", "rerun"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        done = dgrec("export", path, "-o", tmp_path / output)
        assert done.exit_code == 1
        assert f"pip install 'dgrec[{extra}]'" in done.stderr
        assert not (tmp_path / output).exists()


@pytest.mark.slow
def test_names_that_are_not_utf_8_end_no_format(tmp_path: Path) -> None:
    name = os.fsdecode(b"n\xff")
    metadata = new_metadata(name=name)
    metadata["model"] |= {"name": "\ud800", "labels": {"0": "\udfff"}}
    path = write_session(tmp_path / "s.parquet", make_rows(3))
    path = edited(path, {}, **metadata).rename(tmp_path / f"{name}.parquet")
    with open_session(path) as session:
        for form in FORMATS.load():
            # There are no key points, masks, tracks.
            if form not in ("yolo-pose", "yolo-seg", "mot-results"):
                session.export(tmp_path / form, form, images="none")


@pytest.mark.slow
def test_the_recipes_run(
    dgrec: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(sample.SESSION, tmp_path / "session.parquet")
    shutil.copy(sample.CLIP, tmp_path / "faces.mp4")
    (tmp_path / "recordings").mkdir()
    write_session(tmp_path / "recordings" / "monday.parquet", make_rows(3))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    formats = set()
    for line in commands:
        words = shlex.split(line)
        assert words[0] == "dgrec"
        assert words[1] in ("export", "analyze")
        done = dgrec(*words[1:])
        assert done.exit_code == 0, f"{line}: {done.output}"
        assert Path(words[words.index("-o") + 1]).exists(), line
        formats.add(done.stdout.splitlines()[-1].partition(":")[0])
    assert len(formats) >= 10


def test_the_page_names_every_format_and_suffix() -> None:
    text = PAGE.read_text("utf-8")
    for name, form in FORMATS.load().items():
        for word in (name, *form.suffixes):
            assert f"`{word}`" in text, word
