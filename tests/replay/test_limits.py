"""`dgrec stats --why` of pipelines whose limit is known: what is said is right, or not said."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import dgrec
from dgrec.replay.query import SqlReader
from dgrec.replay.stats import explain
from dgrec.replay.stats.pipeline import Pipeline
from tests.factory import rate_of
from tests.pipeline_simulation import (
    LIMITS,
    VARIANTS,
    Simulated,
    capacities,
    simulate,
    without,
    write,
)

Explained = tuple[Simulated, Pipeline]


def explained(simulated: Sequence[Simulated], folder: Path) -> list[Pipeline]:
    """Return what is said of some recordings; all are asked for at once."""
    paths = [write(folder / f"{n:03}.parquet", made) for n, made in enumerate(simulated)]
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(dgrec.open(path)) for path in paths]
        reader = stack.enter_context(SqlReader(sessions))
        found = {pipeline.session: pipeline for pipeline in explain(sessions, reader)}
    return [found[path.stem] for path in paths]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Explained]]:
    """Return a function that gives all pipelines in one variant, and what is said of them."""

    @functools.cache
    def variant(name: str) -> dict[str, Explained]:
        simulated = [simulate(VARIANTS[name](pipeline)) for _, pipeline in LIMITS.values()]
        found = explained(simulated, tmp_path_factory.mktemp("limits"))
        return dict(zip(LIMITS, zip(simulated, found, strict=True), strict=True))

    return variant


Recorded = Callable[[str], dict[str, Explained]]


def check(found: Pipeline, simulated: Simulated) -> None:
    """Hold everything that is said against what is true of the simulation."""
    assert found.fps is not None
    assert found.inferred_fps is not None
    if simulated.pipeline.camera_ms is not None:
        camera = 1000 / simulated.pipeline.camera_ms
        assert found.delivered_fps is not None
        # Stamps of a camera are half a millisecond late at most.
        assert found.fps <= found.delivered_fps * (1 + 1e-9) <= camera * 1.01
        assert found.sent_fps == pytest.approx(camera, rel=0.01)
    for load in found.loads:
        if load.capacity_fps is not None:
            assert load.capacity_fps >= found.fps * (1 - 1e-9), load
        if load.busy is not None and load.busy_at_least is not None:
            assert load.busy_at_least <= load.busy <= 1
    text = " ".join(found.findings)
    most = re.search(r"busy all the time \(.* most, (?:\d+% to )?(\d+)%\)", text)
    assert most is None or int(most[1]) < 90
    assert "waits for frames" not in text or simulated.pipeline.camera_ms is None
    assert ("it is not the source" in text) <= (simulated.pipeline.camera_ms is not None)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_the_limit_of_a_quiet_machine_is_named(recorded: Recorded, name: str) -> None:
    limit, pipeline = LIMITS[name]
    simulated, found = recorded("quiet")[name]
    assert found.limit == limit, found.findings
    check(found, simulated)
    made = capacities(pipeline)
    if limit in made and pipeline.writer_ms < 1:
        # The construction is what it says it is.
        assert made[limit] <= 1.1 * min(made.values())
    for load in found.loads:
        # The simulation knows what was work, and what was waiting.
        worked = simulated.worked_ms.get(load.stage)
        if load.busy is None or load.busy_at_least is None or worked is None:
            continue
        mean_ms = worked / pipeline.frames / max(1, load.workers or 1)
        busy = mean_ms * found.inferred_fps / 1e3 if found.inferred_fps else 0.0
        if load.stage != "recorder":  # which has the waiting for the disk in it
            assert load.busy_at_least <= busy * 1.05, load
        assert load.busy >= busy * 0.9, load


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "quiet"])
def test_what_is_said_under_bad_conditions_is_right_or_not_said(
    recorded: Recorded, name: str, variant: str
) -> None:
    limit, _ = LIMITS[name]
    simulated, found = recorded(variant)[name]
    assert found.limit in (limit, None), found.findings
    check(found, simulated)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_without_the_limit_the_rate_is_no_more_than_is_said(recorded: Recorded, name: str) -> None:
    limit, pipeline = LIMITS[name]
    _, found = recorded("quiet")[name]
    assert (found.next_limit is None) == (limit in (None, "writer"))
    if found.next_fps is None or limit is None:
        return
    assert found.fps is not None
    assert found.next_fps >= found.fps * (1 - 1e-9)
    removed = "writer" if pipeline.writer_ms > 1 else limit
    freed = simulate(without(pipeline, removed)).rows
    assert rate_of(freed[len(freed) // 4 :]) <= found.next_fps * 1.05, found.findings


def test_some_of_what_comes_next(recorded: Recorded) -> None:
    found = {name: pipeline for name, (_, pipeline) in recorded("quiet").items()}
    assert found["inference, camera"].next_limit == "source"
    assert found["inference, camera"].next_fps == pytest.approx(1000 / 33, rel=0.02)
    assert found["decoding"].next_limit == "inference"
    assert found["--fps 5"].next_limit == "source"
    sentence = "Without that it would be at most 30.3 fps, by the times measured here: the source"
    assert any(f.startswith(sentence) for f in found["--fps 5"].findings)
