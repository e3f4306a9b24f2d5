"""The SQL library: views and table macros for what is asked of every recording.

They stand in the ``.sql`` files beside this module, where each has a comment above it that says
what it means. `statements` is what a connection runs to have them, once ``frames``, ``detections``
and ``sessions`` are there.

They are written for any number of sessions.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib import resources

_CREATE = re.compile(r"^CREATE (VIEW|MACRO) (\w+)(\([^)]*\))?", re.MULTILINE)


#: In this order.
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


def statements() -> tuple[str, ...]:
    """Return the statements that create the library, over views that are there."""
    return (*_HIDE_FILES, *(entry.sql for entry in entries()), _listing(), *_SHOW_FILES)


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
