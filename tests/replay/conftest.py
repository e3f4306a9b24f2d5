"""Fixtures for the tests of replay's commands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from dgrec.format import Row
from tests.factory import START_NS, make_detection, make_row, write_session

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dgrec() -> Callable[..., Result]:
    """Run a dgrec command in this process."""
    import dgrec.replay.cli
    from dgrec.cli import root

    for command in dgrec.replay.cli.COMMANDS:
        root.add_command(command)
    return lambda *arguments, **options: CliRunner().invoke(
        root, [str(argument) for argument in arguments], **options
    )


@pytest.fixture
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


@pytest.fixture
def dgrec_process() -> Callable[..., subprocess.Popen[str]]:
    """Start ``python -m dgrec`` as a user does."""

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        command = [sys.executable, "-W", "error", "-m", "dgrec", *map(str, arguments)]
        return subprocess.Popen(command, cwd=ROOT, text=True, **streams)

    return start


def uneven_rows(count: int, seed: int = 0) -> list[Row]:
    """Return rows in which everything varies: stamps, stages (some missing), labels, losses."""
    rng = np.random.default_rng(seed)
    labels = ["person", "car", None]
    rows = []
    for i in range(count):
        captured = START_NS + i * 40_000_000 + int(rng.integers(0, 9_000_000))
        timing = {
            "CorePreprocessDuration_ms": float(rng.gamma(2, 0.5)),
            "CoreInferenceDuration_ms": float(rng.gamma(9, 1.0)),
            "CorePostprocessDuration_ms": float(rng.gamma(1, 0.2)),
        }
        if i % 5 == 4:
            del timing["CorePostprocessDuration_ms"]
        results = [
            make_detection(
                box,
                label=... if (label := labels[int(rng.integers(0, 3))]) is None else label,
                score=float(rng.uniform(0.2, 1)),
            )
            for box in range(int(rng.integers(0, 4)))
        ]
        rows.append(
            make_row(
                i,
                results,
                captured_ns=captured,
                completed_ns=captured + int(rng.gamma(20, 1_500_000)),
                read_ns=int(rng.gamma(3, 400_000)),
                recorder_ns=int(rng.gamma(2, 30_000)),
                timing=timing,
                skipped_before=int(rng.integers(0, 3)),
                dropped_camera=int(rng.integers(0, 2)),
                dropped_queue=int(rng.integers(0, 4)),
                dropped_writer=int(i == 7),
            )
        )
    return rows


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed session of 40 frames; read it only."""
    return write_session(tmp_path_factory.mktemp("session") / "session.parquet", uneven_rows(40))
