"""DeGirum's own tests of degirum_tools, with recordings in the place of their models.

    python -m bench.degirum_tests PATH_TO_degirum_tools [TEST ...]

Runs the tests of a checkout twice: with its models, which are recorded, and with the recordings.
Without TESTs these are the tests that need nothing but a model: compound models, streams, analyzers
and evaluators. Says which ran, and which of them with how many recordings. The exit code is 1 if
one fails that passes with the model.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

#: Files of a checkout with such tests.
TESTS = (
    "test/test_compound_models.py",
    "test/test_streams.py",
    "test/test_analyzers.py",
    "test/test_evaluators.py",
    "test/test_tiling.py",
)
#: Environment of the tests: the folder of recordings, and whether they are made or used.
_FOLDER, _IS_REPLAY = "DGREC_TESTS_FOLDER", "DGREC_TESTS_REPLAY"


def main() -> None:
    """Run the tests of a checkout, and print what came of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("tests", nargs="*")
    options = parser.parse_args()
    tests = options.tests or [name for name in TESTS if (options.checkout / name).exists()]
    if not tests:
        raise SystemExit(f"{options.checkout}: has none of {', '.join(TESTS)}")
    with tempfile.TemporaryDirectory() as folder:
        live = _run(options.checkout, tests, Path(folder), is_replay=False)
        replayed = _run(options.checkout, tests, Path(folder), is_replay=True)
    failed = 0
    for name, (outcome, _) in live.items():
        again, models = replayed.get(name, ("not run", 0))
        if outcome != "passed":
            print(f"{outcome:8} with the model too      {name}")
        elif not models:
            print(f"-        runs no model            {name}")
        else:
            failed += again != "passed"
            print(f"{again:8} with {models} recording(s)     {name}")
    raise SystemExit(1 if failed or not live else 0)


def _run(
    checkout: Path, tests: list[str], folder: Path, *, is_replay: bool
) -> dict[str, tuple[str, int]]:
    """Return the outcome of each test, and how many recordings it made or used."""
    here = str(Path(__file__).parents[1])
    paths = [here, os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        _FOLDER: str(folder),
        _IS_REPLAY: "1" if is_replay else "",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "bench.degirum_tests", *tests]
    run = subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    report = folder / f"{is_replay}.json"
    if not report.exists():
        raise SystemExit(f"pytest did not run:\n{run.stdout}{run.stderr}")
    found: dict[str, tuple[str, int]] = json.loads(report.read_text())
    return found


# --- the plugin of pytest that the tests run with ----------------------------------------------


class _Models:
    """Stands in front of `degirum.load_model`: records a test's models, or replays them."""

    def __init__(self, folder: Path, *, is_replay: bool) -> None:
        self.is_replay = is_replay
        self.outcomes: dict[str, tuple[str, int]] = {}
        self._folder = folder
        self._test = ""
        self._loaded = self._recordings = 0
        self._stack = contextlib.ExitStack()

    @contextlib.contextmanager
    def during(self, test: str) -> Iterator[None]:
        self._test = re.sub(r"[^\w.-]+", "-", test)
        self._loaded = self._recordings = 0
        with contextlib.ExitStack() as self._stack:
            yield

    def load(self, load_model: Any, *arguments: Any, **options: Any) -> Any:
        """Return a model, or the recording that stands in for it."""
        import dgrec

        path = self._folder / f"{self._test}-{self._loaded}.parquet"
        self._loaded += 1
        if self.is_replay:
            if not path.exists():
                return load_model(*arguments, **options)
            self._recordings += 1
            places = ("model_name", "inference_host_address", "zoo_url", "token")
            properties = {name: v for name, v in options.items() if name not in places}
            return dgrec.model(path, **properties)
        model = load_model(*arguments, **options)
        recorder = self._stack.enter_context(dgrec.Recorder(path))
        self._stack.enter_context(recorder.watch(model))
        return model

    def note(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            before = self.outcomes.get(report.nodeid, ("passed", 0))[0]
            worst = before if before != "passed" else report.outcome
            self.outcomes[report.nodeid] = worst, self._recordings

    def write(self) -> None:
        report = self._folder / f"{self.is_replay}.json"
        report.write_text(json.dumps(self.outcomes))


_models: _Models | None = None


def pytest_configure() -> None:
    """Have every model that a test loads recorded or replayed."""
    global _models
    if _FOLDER not in os.environ:
        return
    import degirum

    import dgrec

    _ = dgrec.Recorder  # PySDK finds this Python for its worker from here on
    models = _models = _Models(Path(os.environ[_FOLDER]), is_replay=bool(os.environ[_IS_REPLAY]))
    load_model = degirum.load_model

    def load(*arguments: Any, **options: Any) -> Any:
        return models.load(load_model, *arguments, **options)

    degirum.load_model = load


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Give each test recordings of its own."""
    if _models is None:
        yield
        return
    with _models.during(item.nodeid):
        yield


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of a test."""
    if _models is not None:
        _models.note(report)


def pytest_sessionfinish() -> None:
    """Write what came of the tests."""
    if _models is not None:
        _models.write()


if __name__ == "__main__":
    main()
