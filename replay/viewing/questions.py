"""Questions about a session that SQL answers, and their paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dgrec.replay.viewing.marks import marks, next_mark
from dgrec.replay.viewing.matches import MOST_ROWS, matches
from dgrec.replay.viewing.opened_session import OpenedSession
from dgrec.replay.viewing.parameters import Parameters
from dgrec.replay.viewing.series import begin_series, series_names
from dgrec.replay.viewing.statements import answer, with_places
from dgrec.replay.viewing.why import why
from dgrec.replay.viewing.workers import Task

_WIDEST: Final = 8192


def _series(opened: OpenedSession, parameters: Parameters, task: Task) -> Any:
    names = series_names(parameters.text("names"))
    start, end, width = _stretch(parameters)
    begun = opened.own(lambda of, reader: begin_series(of, reader, names, start, end, width), task)
    return opened.scan(lambda of: begun.complete(of, lambda _: opened.labels(task)), task)


def _marks(opened: OpenedSession, parameters: Parameters, task: Task) -> Any:
    start, end, width = _stretch(parameters)
    return opened.own(lambda of, reader: marks(of, reader, start, end, width), task)


def _stretch(parameters: Parameters) -> tuple[float | None, float | None, int]:
    start, end = (
        parameters.seconds(name) if name in parameters else None for name in ("from", "to")
    )
    return start, end, parameters.whole("width", 1000, least=1, most=_WIDEST)


def _next(opened: OpenedSession, parameters: Parameters, task: Task) -> Any:
    position = parameters.whole("i", least=-1, most=opened.count)
    kinds = [kind for kind in parameters.text("kind", "").split(",") if kind]
    direction = parameters.whole("dir", 1, least=-1, most=1) or 1
    return opened.own(lambda of, reader: next_mark(of, reader, position, kinds, direction), task)


def _why(opened: OpenedSession, parameters: Parameters, task: Task) -> Any:
    return opened.own(why, task)


def _sql(opened: OpenedSession, parameters: Parameters, task: Task) -> Any:
    text = parameters.text("q")
    limit = parameters.whole("limit", 1000, least=0, most=10**9)
    return opened.statement(
        lambda of, reader: with_places(of, reader, answer(reader, text, limit)), task
    )


def _matches(opened: OpenedSession, parameters: Parameters, task: Task) -> Any:
    start, stop = parameters.positions(opened.count, MOST_ROWS)
    text = parameters.text("q")
    return opened.statement(lambda of, reader: matches(of, reader, text, start, stop), task)


_Answers = dict[str, Callable[[OpenedSession, Parameters, Task], Any]]
#: Questions of the page itself.
ANSWERS: Final[_Answers] = {
    "/api/series": _series,
    "/api/marks": _marks,
    "/api/next": _next,
    "/api/why": _why,
}
#: Questions that run what a user typed.
STATEMENTS: Final[_Answers] = {"/api/sql": _sql, "/api/matches": _matches}
