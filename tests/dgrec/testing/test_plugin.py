"""The fixtures for pytest, as a user's tests run with them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import dgrec
from dgrec import sample
from dgrec.testing import differences

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

CONFTEST = """
import cv2
import pytest

@pytest.fixture
def pictures():
    video = cv2.VideoCapture("faces.mp4")
    return [video.read()[1] for _ in range(252)][240:]
"""


@pytest.fixture(name="check")
def checked(pytester: pytest.Pytester) -> Callable[..., tuple[int, str]]:
    """Run a test of the user's beside the sample; return (exit code, output)."""
    shutil.copy(sample.SESSION, pytester.path / "door.parquet")
    shutil.copy(sample.CLIP, pytester.path / "faces.mp4")
    pytester.makeconftest(CONFTEST)

    def run(test: str, *options: str) -> tuple[int, str]:
        pytester.makepyfile(test)
        done = pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)
        return int(done.ret), "\n".join([*done.outlines, *done.errlines])

    return run


def test_a_recording_as_a_model(check: Callable[..., tuple[int, str]]) -> None:
    code, output = check(
        """
        import dgrec

        def test_it(dgrec_model, pictures):
            model = dgrec_model("door.parquet", output_confidence_threshold=0.9)
            found = [result.results for result in model.predict_batch(pictures)]
            with dgrec.open("door.parquet") as session:
                expected = [result.results for result in session[240:252]]
            assert sum(map(len, found)) > 0
            assert found == [[d for d in items if d["score"] >= 0.9] for items in expected]
        """
    )
    assert (code, "1 passed" in output) == (0, True), output


#: What is done to the results, and what is said then; with "", nothing.
CHANGES = {
    "pass": "",
    "del results[9:]": "frame 9: missing",
    "results.append(results[0])": "frame 12: not expected",
    "results[5].results.clear()": r"frame 5: 0 detections, expected \d",
    "results[5].results[0]['label'] = 'door'": r"\[0\]\.label is 'door', expected 'face'",
    "results[5].results[0]['score'] = 0.5": r"frame 5: \[0\]\.score is 0\.5, expected 0\.\d+",
    "results[5].results[0]['why'] = 1": r"\[0\]\.why is not expected",
    "del results[5].results[0]['score']": r"\[0\]\.score is missing",
    "results[2].alarm = True": "frame 2: alarm is True, expected None",
    "[r.results.clear() for r in results]": r"and 7 more frames",
    "results[3].results[0]['bbox'][2] += 0.25": r"frame 3: \[0\]\.bbox\[2\] is ",
}
CHECK = f"""
import pytest

CHANGES = {[*CHANGES]!r}

def changed(dgrec_model, pictures, change):
    results = list(dgrec_model("door.parquet").predict_batch(pictures))
    exec(change)
    return results

@pytest.mark.parametrize("change", CHANGES, ids=range(len(CHANGES)))
def test_it(dgrec_model, dgrec_check, pictures, change):
    dgrec_check(changed(dgrec_model, pictures, change), "expected.parquet")

def test_tolerance(dgrec_model, dgrec_check, pictures):
    results = changed(dgrec_model, pictures, CHANGES[-1])
    dgrec_check(results, "expected.parquet", tolerance=0.5)
"""


def test_results_are_compared(
    check: Callable[..., tuple[int, str]], pytester: pytest.Pytester
) -> None:
    code, output = check(CHECK, "-k", "test_it[0]")
    assert code == 1
    assert "expected.parquet does not exist: pytest --dgrec-update writes it" in output
    code, output = check(CHECK, "-k", "test_it[0]", "--dgrec-update")
    assert code == 0, output
    with dgrec.open(pytester.path / "expected.parquet") as session:
        assert len(session) == 12
    code, output = check(CHECK)
    assert f"{len(CHANGES) - 1} failed, 2 passed" in output
    sections = re.split(r"_+ test_it\[(\d+)\] _+", output)
    said = dict(zip(map(int, sections[1::2]), sections[2::2], strict=True))
    for index, words in enumerate(CHANGES.values()):
        assert (index in said) == bool(words)
        if words:
            assert re.search(words, said[index]), said[index]
    assert re.search(r"1 of 12 frames differs from .*expected.parquet:", said[3])
    picture = re.search(r"frame 5, expected \(left\) and found: (\S+\.png)", said[3])
    assert picture is not None
    assert cv2.imread(picture[1]).shape == (360, 1280, 3)
    assert "differences.py" not in output  # only what the user needs


@pytest.mark.parametrize(
    ("wanted", "given", "is_within"),
    [
        ({"score": np.float32(0.5)}, {"score": np.float32(0.75)}, True),
        ({"score": np.float32(0.5)}, {"score": np.float32(1.75)}, False),
        ({"score": np.float32(0.5)}, {"score": 0.5}, False),
        ({"bbox": [1, 2, 30, 40]}, {"bbox": [1, 3, 30, 40]}, True),
        ({"bbox": [1, 2, 30, 40]}, {"bbox": [1, 2, 30, 42]}, False),
        ({"landmarks": [{"landmark": [1, 2]}]}, {"landmarks": [{"landmark": [1, 3]}]}, True),
        ({"landmarks": [{"category_id": 1}]}, {"landmarks": [{"category_id": 2}]}, False),
        ({"track_id": 1}, {"track_id": 2}, False),
    ],
)
def test_scores_and_pixels_of_any_type_have_the_tolerance(
    tmp_path: Path, wanted: dict[str, Any], given: dict[str, Any], is_within: bool
) -> None:
    """Single-precision scores and boxes of whole numbers had none."""
    expected = tmp_path / "expected.parquet"
    differences.write([[wanted]], expected)
    assert not differences.compare([[wanted]], expected, tmp_path)
    assert bool(differences.compare([[given]], expected, tmp_path, 1)) is not is_within


def test_what_cannot_be_recorded_is_named_in_a_line(check: Callable[..., tuple[int, str]]) -> None:
    test = "def test_it(dgrec_check): dgrec_check([object()], 'expected')"
    code, output = check(test, "--dgrec-update")
    assert code == 1
    assert "type 'object' cannot be recorded" in output
    assert "results.py" not in output


def test_what_is_expected_is_named_as_sessions_are(
    check: Callable[..., tuple[int, str]], pytester: pytest.Pytester
) -> None:
    test = "def test_it(dgrec_check): dgrec_check([[]], 'expected/walk')"
    for options in (["--dgrec-update"], []):
        code, output = check(test, *options)
        assert code == 0, output
    assert [each.name for each in (pytester.path / "expected").iterdir()] == ["walk.parquet"]


def test_an_update_that_fails_keeps_what_was_expected(
    pytester: pytest.Pytester, check: Callable[..., tuple[int, str]]
) -> None:
    test = """
        def test_it(dgrec_check):
            def results():
                yield []
                {}
            dgrec_check(results(), "expected/it.parquet")
        """
    code, output = check(test.format("yield []"), "--dgrec-update")
    assert code == 0, output
    before = (pytester.path / "expected/it.parquet").read_bytes()
    code, output = check(test.format("raise KeyError('broken')"), "--dgrec-update")
    assert code == 1
    assert "KeyError: 'broken'" in output
    assert (pytester.path / "expected/it.parquet").read_bytes() == before
    assert [each.name for each in (pytester.path / "expected").iterdir()] == ["it.parquet"]


@pytest.mark.parametrize(
    ("fixture", "options", "message"),
    [
        ("dgrec_model", "'none.parquet'", "none.parquet: cannot be read: No such file"),
        ("dgrec_model", "'door.parquet', missing='x'", "StandInError: missing='x': expected"),
        ("dgrec_camera", "'door.parquet', pace='x'", "ConfigError: pace='x': expected"),
    ],
)
def test_a_recording_that_cannot_be_used_is_the_line_of_the_test_and_the_message(
    check: Callable[..., tuple[int, str]], fixture: str, options: str, message: str
) -> None:
    code, output = check(f"def test_it({fixture}):\n    {fixture}({options})\n")
    assert code == 1
    failure = output.partition(" FAILURES ")[2]
    assert message in failure
    assert "During handling" not in failure
    assert {*re.findall(r"^(\S+\.py):\d+:", failure, re.MULTILINE)} == {
        "test_a_recording_that_cannot_be_used_is_the_line_of_the_test_and_the_message.py"
    }


def test_the_plugin_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    """It is part of every run of pytest in the environment."""
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert "dgrec.testing.plugin" in sys.modules
            heavy = {"pyarrow", "numpy", "degirum", "cv2", "duckdb", "av"}
            assert not heavy & {*sys.modules}
        """
    )
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    assert done.ret == 0, done.outlines
