"""The command ``dgrec query``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from dgrec.errors import QueryError
from dgrec.options import Command, Completed, NamedPath, Parsed
from dgrec.replay.limits import MEMORY, TABLE_ROWS, TIMEOUT_S, most_rows
from dgrec.replay.options import (
    clips_option,
    links_option,
    output_options,
    say_clip,
    say_damage,
)
from dgrec.terminal import echo, warn
from dgrec.units import Quantity, parse_size, parse_time

if TYPE_CHECKING:
    from dgrec.replay.links import Links
    from dgrec.replay.output import QueryResult
    from dgrec.replay.query import SqlReader
    from dgrec.session import Session

_FORMATS = ("table", "json", "jsonl", "csv", "markdown", "parquet")
#: A name or an address, but not a statement.
_WORD = re.compile(r"[^\s()'\"]+")


def _parameters(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Return the values by name of ``name=value`` texts; values that are JSON are parsed."""
    found = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise click.BadParameter(f"{text!r} is not NAME=VALUE")
        if name in found:
            raise click.BadParameter(f"{name} is given twice")
        try:
            found[name] = json.loads(value)
        except (ValueError, RecursionError):
            found[name] = value
    return found


def _sessions_or_columns(_: click.Context, incomplete: str) -> Sequence[str | CompletionItem]:
    from dgrec.completion import columns, sessions

    return columns(incomplete, "detections") if " " in incomplete else sessions(incomplete)


@click.command(
    "query",
    cls=Command,
    short_help="Ask sessions something in SQL.",
    epilog="Example: dgrec query session.parquet "
    '"SELECT label, count(*) FROM detections GROUP BY label"',
)
@click.argument(
    "arguments",
    nargs=-1,
    required=True,
    metavar="SESSION... [SQL]",
    type=Completed(_sessions_or_columns),
)
@click.option(
    "--file",
    "-f",
    "sql_file",
    type=NamedPath(path_type=Path, allow_dash=True),
    help="Read the SQL from a file; - is standard input.",
)
@click.option(
    "--param",
    "-p",
    "parameters",
    multiple=True,
    callback=_parameters,
    metavar="NAME=VALUE",
    help="Value for $NAME in the SQL: JSON (7, true, [1, 2]), or else text. Can be repeated.",
)
@clips_option
@links_option
@output_options(*_FORMATS)
@click.option(
    "--limit",
    type=click.IntRange(0),
    metavar="ROWS",
    help=f"Write so many rows at most and say how many were left out; 0 writes all.  "
    f"[default: {TABLE_ROWS} for table, else 0]",
)
@click.option(
    "--memory-limit",
    type=Parsed(parse_size),
    metavar="SIZE",
    help=f"Memory that a statement may take; what needs more goes to temporary files, 8 GB at "
    f"most.  [default: {MEMORY}]",
)
@click.option(
    "--timeout",
    type=Parsed(Quantity(parse_time, "1ms").read),
    metavar="TIME",
    help="Stop a statement that takes longer, with all its rows.  [default: 5m]",
)
@click.option(
    "--unsafe",
    is_flag=True,
    help="Lift what keeps a statement from other files, the network, extensions and writing, and "
    "the limits of memory and time that are not given.",
)
def query_command(
    arguments: tuple[str, ...],
    sql_file: Path | None,
    parameters: dict[str, Any],
    with_clips: bool,
    links: Links | None,
    form: str,
    output: Path | None,
    overwrite: bool,
    limit: int | None,
    memory_limit: float | None,
    timeout: float | None,
    unsafe: bool,
) -> None:
    """Run SQL (DuckDB's) over every SESSION: one statement, and one that only reads.

    The views are frames (a row for each), detections (a row for each, with the columns of its
    frame) and sessions; "DESCRIBE frames" lists the columns. SESSION is a sealed file, a journal,
    even one that is being recorded, a recording in parts, a folder of them, or a glob in quotes.
    A file that cannot be read is named and left out. Without SQL, a prompt takes statements; from
    a pipe, they are read from standard input.

    A statement reads the sessions it was given and nothing else, in bounded memory and time.

    The result is streamed: it may be far larger than memory. Tables show six decimals, the other
    formats every digit. Stamps are UTC; nested values are JSON text in table, csv and markdown;
    NaN is null in JSON.
    """
    paths, text = _paths_and_sql(arguments, has_file=sql_file is not None)
    if sql_file is not None:
        text = _read_sql(sql_file)
    elif text is None and output is not None:
        raise click.UsageError("--output takes the result of one statement; give the SQL")
    if text is None and links is not None:
        raise click.UsageError("--links goes with one statement; give the SQL")
    if not unsafe:
        memory_limit = memory_limit or parse_size(MEMORY)
        timeout = timeout or TIMEOUT_S

    import contextlib

    from dgrec.replay.limits import bounded_memory
    from dgrec.replay.query import SqlReader
    from dgrec.session import open_sessions

    with contextlib.ExitStack() as stack:
        sessions = open_sessions(paths, warn, with_clips=with_clips, on_clip=say_clip)
        for session in sessions:
            stack.enter_context(session)
            say_damage(session)
        if memory_limit is not None and not unsafe:
            stack.enter_context(bounded_memory(int(memory_limit)))
        reader = stack.enter_context(
            SqlReader(
                sessions,
                None if memory_limit is None else f"{int(memory_limit)}B",
                timeout=timeout,
                unsafe=unsafe,
                left_out=warn,
            )
        )
        try:
            if text is None:
                _converse(reader, parameters, form, limit)
            else:
                add_links = _adding(links, sessions)
                _answer(
                    reader, text, parameters, form, output, overwrite, sessions, limit, add_links
                )
        except MemoryError:
            raise QueryError("out of memory: one value of the result is too large") from None


def _answer(
    reader: SqlReader,
    text: str,
    parameters: dict[str, Any],
    form: str,
    output: Path | None,
    overwrite: bool,
    sessions: Sequence[Session],
    limit: int | None,
    add_links: Callable[[QueryResult], QueryResult],
) -> None:
    from dgrec.replay.output import open_output, write_rows

    with open_output(output, overwrite=overwrite, keep=sessions) as destination:
        result = add_links(reader.answer(text, parameters, all_used=True))
        left_out = write_rows(result, form, destination, most_rows(form, limit))
    if left_out and form != "table":
        echo(f"{left_out:,} more rows were left out (--limit {limit})", err=True)


def _adding(
    links: Links | None, sessions: Sequence[Session]
) -> Callable[[QueryResult], QueryResult]:
    """Return a function that adds links to a result, where they were asked for."""
    if links is None:
        return lambda result: result
    from dgrec.replay.links import with_links

    paths = {session.id: session.path for session in reversed(sessions)}
    return lambda result: with_links(result, links, paths)


def _converse(reader: SqlReader, parameters: dict[str, Any], form: str, limit: int | None) -> None:
    from dgrec.replay.query import Prompt, run_script

    if sys.stdin.isatty() and sys.stdout.isatty():
        if form == "parquet":
            raise click.UsageError("--format parquet is for files; give the SQL and --output")
        Prompt(reader, parameters, form, limit).run()
    else:
        if not run_script(reader, _read_sql(Path("-")), parameters, form, limit):
            raise QueryError("no statement on standard input; give the SQL as the last argument")


def _paths_and_sql(arguments: tuple[str, ...], *, has_file: bool) -> tuple[list[str], str | None]:
    """Return the sessions, and the SQL: the last argument, unless it is a session, too."""
    from dgrec.session import names_something

    *paths, last = arguments
    is_path = names_something(last) or (
        last.endswith((".parquet", ".arrows")) and not any(c.isspace() for c in last)
    )
    if is_path or (has_file and not _is_sql(last)):
        for path in paths:
            if _is_sql(path) and not names_something(path):
                raise click.UsageError("give the SQL after the sessions")
        return [*paths, last], None
    if has_file:
        raise click.UsageError('give the SQL either as text ("SELECT ...") or with --file')
    if paths and _WORD.fullmatch(last):
        raise click.UsageError(f"{last!r} is neither a session nor SQL")
    if paths:
        return paths, last
    if _is_sql(last):
        raise click.UsageError("name a session before the SQL")
    return [last], None


def _is_sql(text: str) -> bool:
    return any(c.isspace() for c in text.strip())


def _read_sql(file: Path) -> str:
    try:
        with click.open_file(str(file), encoding="utf-8") as stream:
            return str(stream.read())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise click.ClickException(f"{file}: cannot be read: {reason}") from None
