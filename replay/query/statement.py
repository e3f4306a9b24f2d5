"""Refuses every statement that does more than read rows.

DuckDB's own settings shut off files, the network and extensions (`dgrec.sql.views.connect`), but
not everything: it may write to the files it may read, ``WITH c AS (COPY ...)`` counts as a SELECT,
and functions have side effects. So DuckDB parses the statement, and its syntax tree is
compared with lists of what may be in it.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

import duckdb

from dgrec.errors import QueryError
from dgrec.format import is_utf8
from dgrec.sql import library, nodes_of, views

#: Functions that may stand in FROM, besides dgrec's own macros: they make rows of their arguments,
#: or describe the views. All others read files, settings or addresses in memory, run text as SQL,
#: or change something.
_TABLE_FUNCTIONS = frozenset(
    """
    range generate_series unnest repeat repeat_row json_each json_tree histogram
    histogram_values summary pragma_table_info pragma_version duckdb_columns duckdb_functions
    duckdb_keywords duckdb_tables duckdb_types duckdb_views pg_timezone_names icu_calendar_names
    """.split()
)
#: Functions that may not stand anywhere (json_serialize_plan plans, and so computes, a text).
_REFUSED_FUNCTIONS = frozenset(
    """
    current_setting getenv write_log sleep_ms nextval setval currval which_secret
    json_execute_serialized_sql getvariable pg_sleep json_serialize_plan
    """.split()
)
#: Views of DuckDB's own that show more than the sessions.
_REFUSED_VIEWS = frozenset(
    ("pg_settings", "duckdb_logs", "duckdb_settings", "duckdb_secrets", "pragma_database_list")
)
#: The nodes of a query; others (COPY_QUERY_NODE, INSERT_QUERY_NODE) write.
_QUERY_NODES = frozenset(
    ("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE", "STATEMENT_NODE")
)
#: A PIVOT that finds its own columns is several statements, which DuckDB does not show as a tree.
#: Such a text is refused for any of these words, even in a string.
_WORDS_OF_OTHERS = frozenset(
    """
    attach call checkpoint copy create delete detach drop execute export import insert install
    load merge pragma prepare query query_table reset set truncate update use vacuum glob
    """.split()
)
_WORD = re.compile(r"\w+")
#: Functions that the optimizer puts in, with what it knows of their arguments.
_INTERNAL = "__internal_"

_VIEWS = frozenset(entry.name for entry in library.entries() if entry.kind == "view")
_ONLY_READING = (
    "only statements that read can be run (SELECT, FROM, WITH, VALUES, PIVOT, DESCRIBE, SUMMARIZE, "
    "EXPLAIN)"
)


def statements_of(connection: duckdb.DuckDBPyConnection, text: str) -> list[duckdb.Statement]:
    """Return the statements of ``text``.

    Raises:
        QueryError: The text is not valid SQL.
    """
    if not is_utf8(text):  # an argument with other bytes: DuckDB would raise TypeError
        raise QueryError("the SQL is not UTF-8 text")
    try:
        found: list[duckdb.Statement] = connection.extract_statements(text)
    except duckdb.Error as error:
        raise views.query_error(error) from None
    return found


def one_statement(connection: duckdb.DuckDBPyConnection, text: str) -> duckdb.Statement:
    """Return the only statement of ``text``.

    Raises:
        QueryError: The text is not valid SQL, or no or several statements.
    """
    statements = statements_of(connection, text)
    if len(statements) != 1:
        count = "no statement" if not statements else f"{len(statements)} statements"
        raise QueryError(f"{count} in the SQL text; give exactly one")
    return statements[0]


def check_only_reads(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    parameters: Mapping[str, Any] | None = None,
) -> None:
    """Refuse everything but one statement that reads, with functions that only compute.

    Raises:
        QueryError: The text is not valid SQL, no or several statements, or more than reading.
    """
    statement = one_statement(connection, text)
    body = statement.query
    try:
        kind = statement.type
    except ValueError:  # a kind that DuckDB's own list lacks, such as UPDATE EXTENSIONS
        raise QueryError(f"this statement is refused: {_ONLY_READING}") from None
    if kind == duckdb.StatementType.EXPLAIN:
        # EXPLAIN ANALYZE runs what it explains.
        prefix = re.match(r"\s*explain\b(\s*\([\w\s,]*\)|\s+analyze\b)?", body, re.IGNORECASE)
        if prefix is None:
            raise QueryError("EXPLAIN has to come first, before any comment")
        check_only_reads(connection, body[prefix.end() :], parameters)
        return
    if kind == duckdb.StatementType.MULTI:
        _check_words(connection, body)
    elif kind == duckdb.StatementType.SELECT:
        _check_tree(connection, body)
    else:
        raise QueryError(f"{kind.name} is refused: {_ONLY_READING}")
    # As a subquery, DuckDB itself takes only what reads.
    subquery = f"EXPLAIN SELECT * FROM (\n{without_end(connection, body)}\n)"
    used = {name: parameters[name] for name in statement.named_parameters} if parameters else {}
    try:
        connection.execute(subquery, used).fetchall()
    except duckdb.Error as error:
        raise views.query_error(error) from None


def _check_tree(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    try:
        (serialized,) = connection.execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0]
        tree = json.loads(serialized)
    except duckdb.Error as error:
        raise views.query_error(error) from None
    except RecursionError:
        raise QueryError("the statement is nested too deeply") from None
    if tree.get("error"):
        raise QueryError(f"the statement cannot be checked: {tree.get('error_message')}")
    own: frozenset[str] | None = None
    for node in nodes_of(tree):
        kind = str(node.get("type", ""))
        if kind.endswith("_NODE") and kind not in _QUERY_NODES:
            what = kind.removesuffix("_QUERY_NODE").removesuffix("_NODE")
            raise QueryError(f"{what} is refused, in a WITH too: only reading can be done")
        if kind == "TABLE_FUNCTION":
            name = str(node.get("function", {}).get("function_name", "")).lower()
            if name in _TABLE_FUNCTIONS:
                continue
            if own is None:
                own = _own_macros(connection)
            if name in _VIEWS:
                raise QueryError(f"{name} is a view: write it without ()")
            if name not in own:
                raise QueryError(
                    f"{name}() is refused in FROM: a query reads the sessions it was given, "
                    "through frames, detections and sessions"
                )
        elif node.get("class") == "FUNCTION":
            name = str(node.get("function_name", "")).lower()
            if name in _REFUSED_FUNCTIONS or name.startswith(_INTERNAL):
                raise QueryError(f"{name}() is refused: it does more than compute")
        elif kind == "BASE_TABLE":
            name = str(node.get("table_name", "")).lower()
            if name in _REFUSED_VIEWS:
                raise QueryError(f"{name} is refused: a query reads the sessions it was given")


def _own_macros(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    rows = connection.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE NOT internal"
    ).fetchall()
    return frozenset(name.lower() for (name,) in rows)


def _check_words(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Refuse a text by its words alone; one refused without need can name its columns."""
    functions = connection.execute(
        "SELECT DISTINCT lower(function_name) FROM duckdb_functions() "
        "WHERE function_type IN ('table', 'pragma')"
    ).fetchall()
    refused = {name for (name,) in functions} - _TABLE_FUNCTIONS
    refused |= _REFUSED_FUNCTIONS | _REFUSED_VIEWS | _WORDS_OF_OTHERS
    # U&"..." could spell any of them with escapes.
    refused.add("u")
    words = {word.lower() for word in _WORD.findall(text)}
    found = sorted(word for word in words if word in refused or word.startswith(_INTERNAL))
    if found:
        raise QueryError(
            f"{found[0]!r} is refused in a PIVOT that finds its own columns; name them: "
            "PIVOT ... ON column IN ('a', 'b')"
        )


def without_end(connection: duckdb.DuckDBPyConnection, text: str) -> str:
    """Return one statement without the semicolon after it, so that it can stand in brackets."""
    for match in re.finditer(";", text):
        # Only the parser can tell this semicolon from one inside a string or a comment.
        with contextlib.suppress(duckdb.Error):
            rest = connection.extract_statements(text[match.start() :])
            if not rest and len(connection.extract_statements(text[: match.start()])) == 1:
                return text[: match.start()]
    return text
