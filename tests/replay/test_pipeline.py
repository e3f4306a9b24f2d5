"""Stages in threads: in order, in bounded numbers, and ended whatever happens."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from dgrec.replay.rendering.pipeline import ahead
from tests.waiting import PATIENCE_S


def stage_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dgrec-")]


def test_items_come_in_order_through_several_stages() -> None:
    doubled = ahead((number * 2 for number in ahead(range(500), "one")), "two")
    assert list(doubled) == [number * 2 for number in range(500)]
    assert not stage_threads()


def test_work_is_done_in_the_named_thread_and_a_few_items_ahead() -> None:
    made: list[int] = []
    names: set[str] = set()
    more = threading.Semaphore(0)

    def make() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            names.add(threading.current_thread().name)
            more.release()
            yield number

    with contextlib.closing(ahead(make(), "make", depth=3)) as items:
        assert next(items) == 0
        for _ in range(5):  # one in use, three that wait, one being made
            assert more.acquire(timeout=PATIENCE_S)
        assert not more.acquire(timeout=0.05)
        assert len(made) == 5
    assert names == {"dgrec-make_0"}
    assert not stage_threads()


def test_an_error_comes_after_the_items_before_it() -> None:
    def make() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("no more")

    items = ahead(ahead(make(), "one"), "two")
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(OSError, match="no more"):
        next(items)
    assert not stage_threads()


def test_leaving_early_closes_every_stage_in_its_own_thread() -> None:
    closed: list[str] = []

    def make() -> Iterator[int]:
        try:
            yield from range(10_000)
        finally:
            closed.append(threading.current_thread().name)

    with contextlib.closing(ahead(ahead(make(), "inner"), "outer")) as items:
        assert next(items) == 0
    assert closed == ["dgrec-inner_0"]
    assert not stage_threads()


def test_an_error_of_whoever_takes_the_items_ends_the_threads() -> None:
    def take() -> None:
        with contextlib.closing(ahead(iter(range(10_000)), "make")) as items:
            for item in items:
                if item == 3:
                    raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        take()
    assert not stage_threads()


def test_nothing_runs_before_the_first_item_is_asked_for() -> None:
    items = ahead(iter([1]), "make")
    assert not stage_threads()
    items.close()
    assert not stage_threads()
