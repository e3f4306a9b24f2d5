"""The SQL library: views and table macros for what is asked of every recording.

They stand in ``library.sql`` beside this module, where each has a comment above it that says what
it means. `statements` is what a connection runs to have them, once ``frames``, ``detections`` and
``sessions`` are there.

They are written for any number of sessions. A connection over a single one gets them without the
grouping that several need (`OnlySession`): for a short answer DuckDB takes half as long again if it
groups by a constant, and expands a view of thirty columns.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib import resources

__all__ = ["Entry", "OnlySession", "entries", "literal", "statements", "text"]

_CREATE = re.compile(r"^CREATE (VIEW|MACRO) (\w+)(\([^)]*\))?", re.MULTILINE)


# DuckDB binds a view as it is created, down to the files below it. It would open each of them some
# thirty times, so an empty table with their columns takes their place meanwhile.
_HIDE_FILES = (
    "CREATE TABLE _columns AS SELECT * FROM frames LIMIT 0",
    "ALTER VIEW frames RENAME TO _frames",
    "CREATE VIEW frames AS SELECT * FROM _columns",
)
_SHOW_FILES = (
    "DROP VIEW frames",
    "DROP TABLE _columns",
    "ALTER VIEW _frames RENAME TO frames",
)


# What makes a statement about several sessions one about a single session, in this order: its
# session_id is a constant then, and nothing is grouped, joined or sorted by it.
_ALONE = r"JOIN (SELECT * EXCLUDE (session_id) FROM \1) AS \1 "
_UNGROUPED = (
    (r"JOIN (\w+) USING \(session_id\)", _ALONE + "ON true"),
    (r"JOIN (\w+) USING \(session_id, ", _ALONE + "USING ("),
    (r"(PARTITION|GROUP|ORDER) BY session_id, ", r"\1 BY "),
    (r"(PARTITION|GROUP) BY session_id\b", ""),
    # The row before is always the session's own, and there is none before the first.
    (r"CASE WHEN lag\(session_id(?:, 2)?\) OVER \(\) = session_id\s+THEN (.*?)\s+END", r"\1"),
    (r"SELECT session_id\b", "SELECT {session_id} AS session_id"),
)


@dataclass(frozen=True)
class OnlySession:
    """The one session that a connection is over; it has frames."""

    session_id: str
    #: What gives its rows in FROM: the view, or the file itself, whose columns DuckDB knows sooner.
    rows: str = "frames"


@dataclass(frozen=True)
class Entry:
    """One view or macro of the library."""

    name: str
    #: ``view``, ``table macro`` (called in FROM) or ``macro`` (called in an expression).
    kind: str
    #: How it is written in FROM, with the default of each parameter: ``stalls(factor := 3, ...)``.
    call: str
    description: str
    #: The statement that creates it, without the semicolon.
    sql: str


@functools.cache
def text() -> str:
    """Return the library as it is written: comments and statements."""
    return resources.files("dgrec.sql").joinpath("library.sql").read_text(encoding="utf-8")


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Return what is in the library, in an order in which each needs only those before it."""
    return tuple(
        _entry(block) for block in re.split(r"\n\s*\n", text().strip()) if _CREATE.search(block)
    )


def _entry(block: str) -> Entry:
    found = _CREATE.search(block)
    assert found is not None
    sql = block[found.start() :].removesuffix(";")
    is_macro = found[1] == "MACRO"
    kind = "view" if not is_macro else "table macro" if " AS TABLE" in sql else "macro"
    lines = block[: found.start()].splitlines()
    return Entry(
        name=found[2],
        kind=kind,
        call=found[2] + (found[3] or ""),
        description=" ".join(line.removeprefix("--").strip() for line in lines),
        sql=sql,
    )


def statements(only: OnlySession | None = None) -> tuple[str, ...]:
    """Return the statements that create the library, over views that are there."""
    made = (entry.sql if only is None else _for_one(entry.sql, only) for entry in entries())
    return (*_HIDE_FILES, *made, _listing(), *_SHOW_FILES)


def _for_one(sql: str, only: OnlySession) -> str:
    if sql.startswith("CREATE VIEW metrics"):  # It holds queries as text, over these views.
        return sql
    for several, one in _UNGROUPED:
        sql = re.sub(several, one, sql)
    if "frames.*" not in sql:  # All columns of the view are more than those of the file.
        sql = re.sub(r"FROM frames\b", "FROM {rows}", sql)
    meanings = {"{session_id}": literal(only.session_id), "{rows}": only.rows}
    return re.sub(r"\{\w+\}", lambda mark: meanings[mark[0]], sql)


@functools.cache
def _listing() -> str:
    columns = ", ".join(("name", "kind", "call", "description", "sql"))
    rows = ", ".join(
        "(" + ", ".join(map(literal, (e.name, e.kind, e.call, e.description, e.sql))) + ")"
        for e in entries()
        if not e.name.startswith("_")
    )
    return f"CREATE VIEW library AS SELECT * FROM (VALUES {rows}) AS entries({columns})"


def literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
