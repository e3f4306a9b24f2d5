"""One session that several threads read."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest

import dgrec
from dgrec import QueryError, Session
from dgrec.format import parquet
from tests.factory import make_row, write_session
from tests.waiting import PATIENCE_S, wait_until

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


@pytest.mark.slow
def test_sql_of_a_session_at_work_for_another_thread_says_so(path: Path) -> None:
    endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
    with ThreadPoolExecutor(1) as pool:
        with dgrec.open(path) as session:
            session.sql("SELECT 1").fetchall()
            connection = session._connection
            assert connection is not None
            at_work = pool.submit(_answer, session, endless)
            try:
                wait_until(lambda: bool(_refusal(session)) or at_work.done())
                assert _refusal(session) == (
                    "another thread is running a query on this session; open it separately in each "
                    "thread"
                )
                session.close()  # has no error for what the other one does
            finally:
                wait_until(lambda: _interrupted(connection, at_work))
        with pytest.raises(QueryError, match=r"(?i)interrupt"):
            at_work.result(PATIENCE_S)
    with dgrec.open(path) as one, dgrec.open(path) as other:
        for session in (one, other):
            assert session.sql("SELECT count(*) FROM frames").fetchall() == [(FRAMES,)]


def _answer(session: Session, query: str) -> list[Any]:
    while True:
        try:
            return session.sql_rows(query)
        except QueryError as error:
            if "another thread" not in str(error):
                raise


def _interrupted(connection: duckdb.DuckDBPyConnection, at_work: Future[Any]) -> bool:
    connection.interrupt()
    return at_work.done()


def _refusal(session: Session) -> str:
    try:
        session.sql_rows("SELECT 1")
    except QueryError as error:
        return str(error)
    return ""


def _at_once(work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(work, number) for number in range(THREADS)]:
            done.result(PATIENCE_S)


@pytest.mark.slow
@pytest.mark.usefixtures("eager_threads")
def test_threads_get_the_frames_that_they_ask_for(path: Path) -> None:
    """One got another's frame, an error about damage, or crashed the process."""
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
