"""Statements one after the other: typed at a prompt, or read from a pipe."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgrec.errors import QueryError
from dgrec.replay.limits import most_rows
from dgrec.replay.output import open_output, write_rows
from dgrec.terminal import echo

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History

    from dgrec.replay.query.reader import SqlReader

_HELP = """\
Statements are DuckDB's SQL, on one line or several, and end with a semicolon.
Tab completes names, the arrow keys bring back what was typed before.
.tables          the views and macros there are
.schema [NAME]   the columns of all views, or of one
.format [NAME]   how results are written: table, json, jsonl, csv, markdown
.quit            leave, like Ctrl-D; Ctrl-C stops a statement
"""
_FORMATS = ("table", "json", "jsonl", "csv", "markdown")
_KEYWORDS = (
    "GROUP BY",
    "ORDER BY",
    *"SELECT DISTINCT FROM WHERE HAVING LIMIT JOIN USING WITH BETWEEN DESCRIBE SUMMARIZE".split(),
    *"EXPLAIN count sum avg min max quantile_cont".split(),
)
_VIEWS = "SELECT view_name AS name FROM duckdb_views() WHERE NOT internal"
_MACROS = (
    "SELECT DISTINCT function_name || '(' || array_to_string(parameters, ', ') || ')' AS name "
    "FROM duckdb_functions() WHERE NOT internal"
)
_COLUMNS = """
    SELECT table_name AS view, column_name AS "column", data_type AS type
    FROM duckdb_columns() WHERE NOT internal ORDER BY table_name, column_index
"""


def run_script(
    reader: SqlReader,
    text: str,
    parameters: Mapping[str, Any],
    form: str,
    limit: int | None,
) -> int:
    """Run the statements of ``text``, each with its own result, up to the first that fails.

    Return how many there were.

    Raises:
        QueryError: A statement is refused, or fails.
    """
    statements = reader.statements(text)
    if form == "parquet" and len(statements) > 1:  # only the first file of several would be read
        raise QueryError(
            "a Parquet file holds the result of one statement; --format jsonl or csv takes several"
        )
    for number, statement in enumerate(statements):
        _write(reader, statement, parameters, form, limit, is_first=number == 0)
    return len(statements)


def _write(
    reader: SqlReader,
    statement: str,
    parameters: Mapping[str, Any],
    form: str,
    limit: int | None,
    *,
    is_first: bool = True,
) -> None:
    with open_output(None) as destination:
        result = reader.answer(statement, parameters)
        if not is_first and form in ("table", "markdown"):
            destination.write("\n")
        left_out = write_rows(result, form, destination, most_rows(form, limit))
    if left_out and form != "table":
        echo(f"{left_out:,} more rows were left out", err=True)


class Prompt:
    """A prompt in the terminal.

    Args:
        parameters: Values for ``$name``, the same in every statement.
        limit: ``--limit``; see `most_rows`.
    """

    def __init__(
        self, reader: SqlReader, parameters: Mapping[str, Any], form: str, limit: int | None
    ) -> None:
        self._reader = reader
        self._parameters = parameters
        self._form = form
        self._limit = limit

    def run(self) -> None:
        """Take statements until the user leaves."""
        session = self._session()
        echo("SQL over frames, detections and sessions; .help lists the commands, Ctrl-D leaves")
        while not self._reader.is_stuck:
            try:
                text = session.prompt("dgrec> ").strip()
                if text.lstrip(".").removesuffix(";") in ("quit", "exit"):
                    return
                self._do(text)
            except KeyboardInterrupt:  # while typing
                continue
            except EOFError:
                return

    def _do(self, text: str) -> None:
        try:
            if _is_command(text):
                self._command(*text.removesuffix(";").split())
            else:
                run_script(self._reader, text, self._parameters, self._form, self._limit)
        except QueryError as error:
            echo(f"Error: {error}", err=True)
        except MemoryError:
            echo("Error: out of memory: one value of the result is too large", err=True)
        except KeyboardInterrupt:
            echo("stopped", err=True)
        if self._reader.is_stuck:
            echo("Error: the statement does not stop; leaving", err=True)

    def _command(self, name: str, *arguments: str) -> None:
        if name in (".help", "help"):
            for line in _HELP.splitlines():
                echo(line)
        elif name == ".tables":
            for line in self._names(_VIEWS) + self._names(_MACROS):
                echo(line)
        elif name == ".schema":
            rows = self._reader.rows(_COLUMNS)
            known = {row["view"] for row in rows if not row["view"].startswith("_")}
            if arguments and arguments[0] not in known:
                raise QueryError(f"no view {arguments[0]!r}; there are: {', '.join(sorted(known))}")
            for view in arguments[:1] or sorted(known):
                echo(view)
                columns = [row for row in rows if row["view"] == view]
                width = max(len(row["column"]) for row in columns)
                for row in columns:
                    echo(f"    {row['column']:{width}}  {row['type']}")
        elif name == ".format":
            if arguments and arguments[0] not in _FORMATS:
                raise QueryError(f"no format {arguments[0]!r}; there are: {', '.join(_FORMATS)}")
            self._form = arguments[0] if arguments else self._form
            echo(f"results are written as {self._form}")
        else:
            raise QueryError(f"no command {name}; .help lists them")

    def _names(self, query: str) -> list[str]:
        names = (row["name"] for row in self._reader.rows(query))
        return sorted(name for name in names if not name.startswith("_"))

    def _session(self) -> PromptSession[str]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.application import get_app
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.filters import Condition

        return PromptSession(
            history=_history(),
            completer=WordCompleter(self._words(), ignore_case=True, match_middle=False),
            complete_while_typing=False,
            multiline=Condition(lambda: not self._is_complete(get_app().current_buffer.text)),
            prompt_continuation="   ... ",
        )

    def _words(self) -> list[str]:
        columns = {row["column"] for row in self._reader.rows(_COLUMNS)}
        macros = {name.partition("(")[0] for name in self._names(_MACROS)}
        return sorted({*columns, *macros, *self._names(_VIEWS), *_KEYWORDS})

    def _is_complete(self, text: str) -> bool:
        """Return whether Enter ends what is typed, rather than its line."""
        text = text.strip()
        if not text or _is_command(text):
            return True
        if not text.endswith(";"):
            return False
        try:
            # Inside a text or a comment, a semicolon ends nothing.
            self._reader.statements(text + "\n")
        except QueryError as error:
            return "unterminated" not in str(error)
        return True


def _is_command(text: str) -> bool:
    # Words that other prompts know, and that are not statements.
    return text.startswith(".") or text.removesuffix(";") in ("quit", "exit", "help")


def _history() -> History:
    """Return the statements typed before, from the user's state folder where there is one."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class Kept(FileHistory):
        def load_history_strings(self) -> Iterable[str]:
            try:
                yield from super().load_history_strings()
            except OSError:
                return

        def store_string(self, string: str) -> None:
            with contextlib.suppress(OSError):
                super().store_string(string)

    home = os.environ.get("XDG_STATE_HOME")
    try:
        folder = (Path(home) if home else Path.home() / ".local" / "state") / "dgrec"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or none that can be written to
        return InMemoryHistory()
    return Kept(str(folder / "query_history"))
