"""Every command in docs/imports.md runs, on files that are called as there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from dgrec import sample
from dgrec.cli import gather
from tests.dgrec.imports.inputs import inputs

PAGE = Path(__file__).parents[3] / "docs" / "imports.md"
#: The files of the page, and what they are.
FILES = {
    "labels.json": "coco",
    "results.json": "coco-results",
    "gt.txt": "mot-gt",
    "found.csv": "csv",
    "found.json": "supervision-json",
    "predictions.json": "ultralytics",
    "published.jsonl": "payload-full",
    "annotations.xml": "cvat-video",
    "samples.json": "fiftyone-samples",
    "annotations.mcap": "mcap-protobuf",
}


@pytest.mark.slow
def test_recipes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made").mkdir()
    # Of the size and with a label of the sample.
    made = inputs(tmp_path / "made")
    for name, original in FILES.items():
        data = made[original].read_bytes()
        if not name.endswith(".mcap"):
            data = data.replace(b"person", b"face")
            data = data.replace(b'"height": 480', b'"height": 360').replace(b">480<", b">360<")
        (tmp_path / name).write_bytes(data)
    shutil.copy(sample.SESSION, tmp_path / "session.parquet")
    shutil.copy(sample.CLIP, tmp_path / "faces.mp4")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert {name for name in FILES if any(name in line for line in commands)} == set(FILES)
    for line in commands:
        program, *arguments = shlex.split(line)
        assert program == "dgrec"
        done = CliRunner().invoke(gather(), arguments)
        assert done.exit_code == 0, (line, done.output)
