"""Outputs that a program makes with nothing but `import dgrec`."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

import dgrec
from tests.recorder.broker import free_port

CAT = {"label": "cat", "score": 0.9, "bbox": [10.0, 20.0, 110.0, 70.0]}
EVENTS = """
Trigger: crowd
when: ObjectCount
is greater than: 0
during: [1, frame]
"""


def _names_of_alerts(path: Path) -> list[str]:
    with dgrec.open(path) as session:
        return [each["text"] for each in session.metadata["events"] if each["kind"] == "alert"]


def test_rules_are_texts_and_files_of_events(tmp_path: Path) -> None:
    (tmp_path / "events.yaml").write_text(EVENTS)
    rules = ["cats=count('cat') > 0", str(tmp_path / "events.yaml")]
    with dgrec.Recorder(tmp_path / "s.parquet", outputs=dgrec.Alerts(rules)) as recorder:
        recorder.add([CAT])
    assert _names_of_alerts(tmp_path / "s.parquet") == ["cats", "crowd"]


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (5, "rules: 5 is not a rule, or a list of them"),
        ([5], "a rule: 5 is not a text"),
        ("cats=count(", "--alert cats: 'count(' is not a condition"),
        (["a=count() > 0", "a=count() > 1"], "two rules have the name 'a'"),
        ("missing.yaml", "missing.yaml"),
    ],
)
def test_what_is_no_rule_is_refused(rules: Any, reason: str) -> None:
    with pytest.raises(dgrec.ConfigError) as caught:
        dgrec.Alerts(rules)
    assert reason in str(caught.value)


def test_a_command_may_be_a_text(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    alerts = dgrec.Alerts("cats=count('cat') > 0", command=f"touch '{touched}'")
    with dgrec.Recorder(tmp_path / "s.parquet", outputs=alerts) as recorder:
        recorder.add([CAT])
    for running in alerts._running:
        running.wait()
    assert touched.exists()
    with pytest.raises(dgrec.ConfigError, match="no such program"):
        dgrec.Alerts("cats=count('cat') > 0", command="there-is-none of-it")


def test_a_publisher_opens_its_target(tmp_path: Path) -> None:
    options = dgrec.PayloadOptions(where="score > 0.5", every=2)
    publisher = dgrec.Publisher(str(tmp_path / "found.jsonl"), options)
    with dgrec.Recorder(tmp_path / "s.parquet", outputs=publisher) as recorder:
        for score in (0.9, 0.9, 0.4):
            recorder.add([{**CAT, "score": score}])
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert [line["detections"] for line in lines] == [[CAT], []]


def test_what_is_no_options_or_no_name_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(dgrec.ConfigError, match="a name cannot hold a NUL"):
        dgrec.Publisher("a\0b")
    with pytest.raises(dgrec.ConfigError, match=r"'all' is not dgrec\.PayloadOptions"):
        dgrec.Publisher(str(tmp_path / "new.jsonl"), "all")  # type: ignore[arg-type]
    assert not (tmp_path / "new.jsonl").exists()


@pytest.mark.parametrize("name", ["s.parquet", "s.mp4", "notes.txt"])
def test_a_publisher_adds_to_no_file_of_another_kind(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"what it is")
    with pytest.raises(dgrec.OutputError, match=re.escape(name)):
        dgrec.Publisher(str(path))
    assert path.read_bytes() == b"what it is"


@pytest.mark.parametrize(
    ("target", "names", "reason"),
    [
        (5, {}, "target: 5 is not a text"),
        ("", {}, "the target is empty"),
        ("ftp://broker/cats", {}, "targets are"),
        ("mqtt://broker/cams/{source}", {}, "what {source} stands for is not given"),
        ("mqtt://broker/cams/{source}", {"source": 5}, "names: source: 5 is not a text"),
        (
            "ws://127.0.0.1:PORT/{session}",
            {"source": "cam"},
            "{session} stands for is not given",
        ),
    ],
)
def test_what_is_no_target_is_refused(target: Any, names: Any, reason: str) -> None:
    if isinstance(target, str):
        target = target.replace("PORT", str(free_port()))
    with pytest.raises(dgrec.ConfigError) as caught:
        dgrec.Publisher(target, names=names)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"every": 0}, "every: 0 is less than 1"),
        ({"every": 1.5}, "every: 1.5 is not a whole number"),
        ({"ended_after": -1.0, "only_changes": True}, "ended_after: -1.0 is not a time in seconds"),
        ({"ended_after": math.nan, "only_changes": True}, "ended_after: nan is not a time"),
        ({"ended_after": "1s", "only_changes": True}, "ended_after: '1s' is not a number"),
        ({"where": 5}, "where: 5 is not a text"),
        ({"form": "all"}, "form: 'all' is not one of 'guide' and 'full'"),
    ],
)
def test_odd_payload_options_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(dgrec.ConfigError) as caught:
        dgrec.PayloadOptions(**options)
    assert reason in str(caught.value)
