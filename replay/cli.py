"""The commands of this room: look at a session again, and measure it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from replay.clip_cli import clip_command
from replay.options import TABLE_ROWS, output_options, session_argument
from replay.replay_cli import replay_command

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["COMMANDS"]


@click.command(
    "query",
    short_help="Ask a session something in SQL.",
    epilog="Example: dgrec query session.parquet "
    '"SELECT label, count(*) FROM detections GROUP BY label"',
)
@session_argument
@click.argument("sql", required=False)
@click.option(
    "--file",
    "-f",
    "sql_file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Read the SQL from a file; - is standard input.",
)
@output_options("table", "json", "jsonl", "csv", "markdown", "parquet")
@click.option(
    "--limit",
    type=click.IntRange(0),
    metavar="ROWS",
    help=f"Write so many rows at most and say how many were left out; 0 writes all.  "
    f"[default: {TABLE_ROWS} for table, else 0]",
)
def query_command(
    session: Path,
    sql: str | None,
    sql_file: Path | None,
    form: str | None,
    output: Path | None,
    overwrite: bool,
    limit: int | None,
) -> None:
    """Run SQL (DuckDB's) over SESSION: one statement, and one that only reads.

    The views are frames (a row for each), detections (a row for each, with the columns of its
    frame) and sessions; "DESCRIBE frames" lists the columns. SESSION is a sealed file or a
    journal, even one that is being recorded.

    The result is streamed: it may be far larger than memory. Tables show six decimals, the other
    formats every digit. Stamps are UTC; nested values are JSON text in table, csv and markdown;
    NaN is null in JSON.
    """
    if (sql is None) == (sql_file is None):
        raise click.UsageError('give the SQL either as text ("SELECT ...") or with --file')
    text = sql if sql is not None else _read_sql(sql_file)

    import dgrec
    from replay.output import format_for, open_output, write_rows
    from replay.query import SqlReader, check_only_reads

    chosen = format_for(form, output)
    if limit is None and chosen == "table":
        limit = TABLE_ROWS
    with dgrec.open(session) as opened, SqlReader([opened]) as reader:
        _say_damage(opened)
        check_only_reads(reader.connection, text)
        with open_output(output, overwrite=overwrite, keep=(session, *opened.files)) as destination:
            result = reader.stream(text)
            left_out = write_rows(result, chosen, destination, limit or None)
        if left_out and chosen != "table":
            click.echo(f"{left_out:,} more rows were left out (--limit {limit})", err=True)


def _read_sql(file: Path | None) -> str:
    try:
        with click.open_file(str(file), encoding="utf-8") as stream:
            return str(stream.read())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise click.ClickException(f"{file}: cannot be read: {reason}") from None


@click.command(
    "stats",
    short_help="Latency of every stage, throughput, drops, and detections per label.",
    epilog="Example: dgrec stats session.parquet --format json",
)
@session_argument
@output_options("table", "json", "csv", "markdown")
def stats_command(session: Path, form: str | None, output: Path | None, overwrite: bool) -> None:
    """Measure SESSION: how long its stages took, how many frames a second, what was lost.

    Quantiles are interpolated like numpy's, and exact up to 4 million frames (37 hours at 30
    frames a second); beyond, they are t-digest estimates, and the output says so. Every frame
    counts, the first one too.
    """
    import dgrec
    from replay.output import format_for, open_output
    from replay.stats import measure, write_stats

    with dgrec.open(session) as opened:
        _say_damage(opened)
        stats = measure(opened)
        with open_output(output, overwrite=overwrite, keep=(session, *opened.files)) as destination:
            write_stats(stats, format_for(form, output), destination)


@click.command(
    "info",
    short_help="What is known about a recording, and what its columns take.",
    epilog="Example: dgrec info session.parquet",
)
@session_argument
@output_options("table", "json")
def info_command(session: Path, form: str | None, output: Path | None, overwrite: bool) -> None:
    """Show how SESSION was recorded, whether it is whole, and the size of its columns.

    --format json has all of the metadata, which the table shortens.
    """
    import dgrec
    from replay.info import describe, write_info
    from replay.output import format_for, open_output

    with dgrec.open(session) as opened:
        info = describe(opened)
        with open_output(output, overwrite=overwrite, keep=(session, *opened.files)) as destination:
            write_info(info, format_for(form, output), destination)


@click.command(
    "verify",
    short_help="Tell whether sessions are whole, and true to their metadata.",
    epilog="Example: dgrec verify session.parquet",
)
@click.argument("sessions", nargs=-1, required=True, type=click.Path(path_type=Path))
def verify_command(sessions: tuple[Path, ...]) -> None:
    """Check SESSIONS: checksums, numbering, stamps, counts, and videos recorded beside them.

    Prints one line for each session, and one for each thing that is wrong. Exit code 0: all are
    whole. 1: at least one is not.
    """
    from replay.verify import verify

    whole = True
    for session in sessions:
        problems = verify(session)
        whole = whole and not problems
        click.echo(f"{session}: {'whole' if not problems else f'{len(problems)} problems'}")
        for problem in problems:
            click.echo(f"  {problem}")
    raise SystemExit(0 if whole else 1)


def _say_damage(session: Session) -> None:
    """Say on stderr what of a session cannot be read, and so is missing from what follows."""
    damage = session.damage
    if damage:
        more = f" (and {len(damage) - 1} more: dgrec info)" if len(damage) > 1 else ""
        click.echo(
            f"{session.path}: {damage[0]}{more}; the result is of what can be read", err=True
        )


COMMANDS: tuple[click.Command, ...] = (
    replay_command,
    clip_command,
    query_command,
    stats_command,
    info_command,
    verify_command,
)
