"""One session that several threads read."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import dgrec
from dgrec import Session
from dgrec.format import parquet
from tests.factory import make_row, write_session
from tests.waiting import PATIENCE_S

FRAMES = 6000
THREADS = 6


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_ROW_GROUP_FRAMES", 1000)
        rows = [make_row(i, [{"label": "a", "score": 0.5}] * (i % 4)) for i in range(FRAMES)]
        yield write_session(tmp_path_factory.mktemp("threads") / "s.parquet", rows, batch=500)


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Have threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def _at_once(work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(work, number) for number in range(THREADS)]:
            done.result(PATIENCE_S)


@pytest.mark.slow
@pytest.mark.usefixtures("eager_threads")
def test_threads_get_the_frames_that_they_ask_for(path: Path) -> None:
    """One got another's frame, was told that the file is damaged, or crashed the process."""
    with dgrec.open(path) as session:

        def read(number: int) -> None:
            if number % 3 == 0:
                _check_all(session)
                return
            position = number * 977
            chosen = random.Random(number)
            for _ in range(100):
                position = (position + chosen.randrange(500)) % FRAMES
                frame = session[position]
                assert (frame.frame, len(frame.results)) == (position, position % 4)

        _at_once(read)


def _check_all(session: Session) -> None:
    at = 0
    for batch in session.batches(["frame", "detections"]):
        frames = batch.column("frame").to_pylist()
        assert frames == list(range(at, at + len(frames)))
        assert batch.column("detections").value_lengths().to_pylist() == [i % 4 for i in frames]
        at += len(frames)
    assert at == FRAMES
