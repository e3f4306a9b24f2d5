"""`dgrec stats --why` finds a pipeline that gets in its own way."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from tests.factory import START_NS, make_row, new_metadata, write_session

Run = Callable[..., Result]
MS = 1_000_000
QUIET = {"cores": 2, "seconds": 10.0, "process_cpu_s": 4.0, "children_cpu_s": 0.2}


def findings(
    dgrec: Run,
    path: Path,
    inference_ms: Sequence[float],
    *,
    devices: int = 2,
    device: str = "TFLITE/CPU",
    host: str = "@local",
    **machine: Any,
) -> str:
    rows, now = [], START_NS
    for i, took_ms in enumerate(inference_ms):
        rows.append(
            make_row(
                i,
                [],
                captured_ns=now,
                completed_ns=now + int((took_ms + 3) * MS),
                timing={"CoreInferenceDuration_ms": took_ms},
            )
        )
        now += int((took_ms + 4) * MS)
    metadata = new_metadata(
        model={
            "name": "m",
            "inference_host": host,
            "device": device,
            "devices": list(range(devices)),
        },
        machine={**QUIET, "sources": 1, "system_busy": 0.5, **machine},
    )
    write_session(path, rows, metadata)
    done = dgrec("stats", path, "--why", "--format", "json")
    assert done.exit_code == 0, done.output
    (value,) = json.loads(done.stdout)
    return "\n".join(value["findings"])


def two_humps(count: int = 300) -> list[float]:
    random = np.random.default_rng(3)
    slow = random.random(count) < 0.2
    return np.where(slow, random.normal(400, 8, count), random.gamma(16, 0.22, count)).tolist()


@pytest.mark.slow
def test_two_devices_of_one_processor(dgrec: Run, tmp_path: Path) -> None:
    text = findings(dgrec, tmp_path / "s.parquet", two_humps(), process_cpu_s=19.0)
    assert "Inference has two humps: " in text
    assert "of the frames take about 3." in text
    assert "The processor was full: recording used 1.9 of 2 cores." in text
    assert "A frame cost 64 ms of processor time" in text
    assert "2 devices share one processor of 2 cores: try a single device" in text
    assert "--property devices_selected=[0]" in text


@pytest.mark.slow
def test_elsewhere_nothing_is_advised(dgrec: Run, tmp_path: Path) -> None:
    for number, where in enumerate(({"device": "HAILORT/HAILO8"}, {"host": "10.0.0.1"})):
        text = findings(dgrec, tmp_path / f"{number}.parquet", two_humps(), **where)
        assert "Inference has two humps: " in text
        assert "try a single device" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        lambda r: r.exponential(20, 400) + 0.1,
        lambda r: r.lognormal(3, 1, 400),
        lambda r: r.uniform(1, 100, 400),
        lambda r: r.normal(20, 0.5, 400),
        lambda r: np.where(r.random(400) < 0.02, 400.0, r.normal(20, 1, 400)),  # a few hiccups
        lambda r: np.full(400, 20.0),
    ],
)
def test_one_hump_is_not_two(
    dgrec: Run, tmp_path: Path, draw: Callable[[np.random.Generator], Any]
) -> None:
    times = draw(np.random.default_rng(5)).tolist()
    text = findings(dgrec, tmp_path / "s.parquet", times)
    assert "humps" not in text
    assert "try a single device" not in text


@pytest.mark.slow
def test_a_machine_that_is_busy_with_other_work(dgrec: Run, tmp_path: Path) -> None:
    text = findings(
        dgrec, tmp_path / "s.parquet", [20.0] * 100, system_busy=0.97, process_cpu_s=3.0
    )
    assert "The machine was busy with other work: 97% of all its processor time" in text
    assert "0.3 of 2 cores by this recording" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "machine",
    [
        {"cores": "two"},
        {"seconds": None},
        {"process_cpu_s": -1},
        {"system_busy": None},
        {"sources": 3, "process_cpu_s": 19.0},
    ],
)
def test_what_the_metadata_does_not_say_is_not_said(
    dgrec: Run, tmp_path: Path, machine: dict[str, Any]
) -> None:
    text = findings(dgrec, tmp_path / "s.parquet", [20.0] * 100, **machine)
    assert "cores" not in text
