"""The SQL library: views and table macros for what is asked of every recording.

They are in the ``.sql`` files beside this module, each with a comment above it that says what it
means. `Library` creates them in a connection, once ``frames``, ``detections`` and ``sessions`` are
there.

They are written for any number of sessions.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

_CREATE = re.compile(r"^CREATE (VIEW|MACRO) (\w+)(\([^)]*\))?", re.MULTILINE)
_WORD = re.compile(r"\w+")
#: Statements that list tables and functions.
_LISTS = re.compile(r"show|describe|duckdb_|information_schema|pg_|pragma|sqlite_", re.IGNORECASE)

#: Its files, in this order.
_FILES = ("library.sql", "detections.sql", "pipeline.sql", "analyzers.sql")

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
    folder = resources.files("dgrec.sql")
    files = [folder.joinpath(name).read_text(encoding="utf-8") for name in _FILES]
    return "\n".join(files)


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


def used_by(*texts: str) -> tuple[Entry, ...]:
    """Return the entries that texts name, and those they use; each needs only those before it."""
    used: set[str] = set()
    waiting = list(texts)
    while waiting:
        words = {word.lower() for word in _WORD.findall(waiting.pop())}
        named = [entry for entry in entries() if entry.name in words and entry.name not in used]
        used |= {entry.name for entry in named}
        waiting += [entry.sql for entry in named]
    return tuple(entry for entry in entries() if entry.name in used)


class Library:
    """The library in one connection: what a statement names is created before it runs.

    Creating all of it takes DuckDB longer than most answers.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._left = {entry.name: entry.sql for entry in entries()} | {_LISTING: _listing()}

    def provide(self, text: str) -> None:
        """Create what a statement needs."""
        if not self._left:
            return
        if _LISTS.search(text):
            self.provide_all()
            return
        names = [entry.name for entry in used_by(text)]
        if _LISTING in text.lower():
            names.append(_LISTING)
        self._create([name for name in names if name in self._left])

    def provide_all(self) -> bool:
        """Create all of it; return whether anything was left to create."""
        return self._create([*self._left])

    def _create(self, names: list[str]) -> bool:
        if not names:
            return False
        try:
            self._connection.begin()
            for statement in (*_HIDE_FILES, *(self._left[name] for name in names), *_SHOW_FILES):
                self._connection.execute(statement)
            self._connection.commit()
        except BaseException:
            self._roll_back()
            raise
        for name in names:
            del self._left[name]
        return True

    def _roll_back(self) -> None:
        import duckdb

        while True:
            try:
                self._connection.rollback()
            except duckdb.InterruptException:  # meant for the statement that has ended
                continue
            except duckdb.TransactionException:  # no transaction is open
                pass
            return


#: The view that lists the library.
_LISTING = "library"


@functools.cache
def _listing() -> str:
    columns = ", ".join(("name", "kind", "call", "description", "sql"))
    rows = ", ".join(
        "(" + ", ".join(map(literal, (e.name, e.kind, e.call, e.description, e.sql))) + ")"
        for e in entries()
        if not e.name.startswith("_")
    )
    return f"CREATE VIEW {_LISTING} AS SELECT * FROM (VALUES {rows}) AS entries({columns})"


def literal(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
