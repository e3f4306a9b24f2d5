"""`dgrec stats`: measure recordings, and say why they ran as they did."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dgrec.options import Command, Parsed, SessionPath
from dgrec.replay.options import clips_option, output_options, say_clip
from dgrec.terminal import echo, warn
from dgrec.units import Quantity, parse_time

if TYPE_CHECKING:
    from dgrec.replay.output import Destination
    from dgrec.replay.query import SqlReader
    from dgrec.session import Session

#: Seconds between two looks at a journal.
_REFRESH_S = 1.0
_CHARTS = "--charts are drawn below the tables of one session: without --by and the like, as text"


@click.command(
    "stats",
    cls=Command,
    short_help="Latency of every stage, throughput, drops, and detections per label.",
    epilog="Example: dgrec stats session.parquet --why",
)
@click.argument("sessions", metavar="SESSION...", nargs=-1, type=SessionPath(path_type=Path))
@click.option(
    "--by",
    type=click.Choice(("session", "model", "device", "label", "hour")),
    help="One row for each.  [default: session, where several are given]",
)
@click.option(
    "--window",
    type=Parsed(Quantity(parse_time, "1ms").read),
    metavar="TIME",
    help="Rate and latency in windows of so long (10s, 1m), counted from the first frame.",
)
@click.option("--why", is_flag=True, help="Say what limits the rate, and why fps is not 1/latency.")
@click.option(
    "--late",
    type=click.IntRange(1),
    metavar="N",
    help="The N latest frames: how late, which part was to blame, what they waited behind.",
)
@click.option(
    "--follow",
    is_flag=True,
    help="Show a recording in progress until it ends (Ctrl-C stops looking), then measure it.",
)
@click.option(
    "--charts/--no-charts",
    default=None,
    help="Draw latency as a histogram, and latency, rate and losses over time.  "
    "[default: on a terminal]",
)
@click.option(
    "--sql", "show_sql", is_flag=True, help="Print the SQL of the answer instead, for dgrec query."
)
@clips_option
@output_options("table", "json", "csv", "markdown")
def stats_command(
    sessions: tuple[Path, ...],
    by: str | None,
    window: float | None,
    why: bool,
    late: int | None,
    follow: bool,
    charts: bool | None,
    show_sql: bool,
    with_clips: bool,
    form: str,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Measure each SESSION: how long its stages took, how many frames a second, what was lost.

    Of one session everything is shown, of several a row each, or what the options ask for.
    docs/sql.md explains the numbers, with the SQL behind them. SESSION is a sealed file, a journal,
    a recording in parts, a folder of them, or a glob in quotes. What cannot be read is named and
    left out where there is more.

    Quantiles are interpolated like numpy's. They are exact, but for the summary of one session of
    more than 4 million frames (37 hours at 30 frames a second): t-digest estimates, which it says.
    Every frame counts, the first ones too; how many are warm-up is said. Only --why leaves those
    out.
    """
    asked = {"--by": by, "--window": window, "--why": why, "--late": late, "--follow": follow}
    _check_combination([name for name, given in asked.items() if given], form, show_sql, charts)

    query = _query(by, window, late)
    if show_sql:
        _print_sql(query, why, output, overwrite, sessions)
        return
    if not sessions:
        raise click.UsageError("Missing argument 'SESSION...'.")
    if follow:
        sessions = (_follow(sessions),)

    from dgrec.replay.output import open_output, write_rows
    from dgrec.replay.query import SqlReader
    from dgrec.replay.stats import caveats
    from dgrec.session import open_sessions

    with contextlib.ExitStack() as stack:
        opened = open_sessions(
            sessions,
            warn,
            with_clips=with_clips,
            on_clip=say_clip,
        )
        for session in opened:
            stack.enter_context(session)
            _say_what_is_missing(session)
        keep: list[Path | Session] = [*sessions, *opened]
        if query is None and not why and (len(sessions) > 1 or len(opened) > 1):
            if charts:
                raise click.UsageError(_CHARTS)
            query = _query("session", None, None)
        if query is not None or form in ("json", "csv"):
            # Rows have no place for caveats, and a program that reads a report may not show them.
            for session in opened:
                for caveat in caveats(session):
                    echo(f"{session.path}: {caveat}", err=True)
        if query is None and not why:
            _report(opened[0], form, output, overwrite, keep, charts)
            return
        for session in opened:
            if not len(session):
                echo(f"{session.path}: has no frames", err=True)
        reader = stack.enter_context(SqlReader(opened, left_out=warn))
        with open_output(output, overwrite=overwrite, keep=keep) as destination:
            if query is not None:
                write_rows(reader.stream(query), form, destination)
            else:
                from dgrec.replay.stats import explain, write_pipelines

                write_pipelines(explain(opened, reader), form, destination)


def _check_combination(asked: list[str], form: str, show_sql: bool, charts: bool | None) -> None:
    if len(asked) > 1:
        raise click.UsageError(f"{' and '.join(asked)} cannot be combined: choose one")
    if show_sql and "--follow" in asked:
        raise click.UsageError("--follow reads the journal itself: there is no SQL to show")
    if "--why" in asked and form == "csv":
        raise click.UsageError("--why is written as table, json or markdown")
    if charts and (form != "table" or show_sql or set(asked) - {"--follow"}):
        raise click.UsageError(_CHARTS)


def _say_what_is_missing(session: Session) -> None:
    from dgrec.replay.stats import MEASURED

    missing = [name for name in MEASURED if name not in session.schema.names]
    if missing:
        what = ", ".join(missing)
        echo(f"{session.path}: has no {what}: figures that need it are missing", err=True)


def _query(by: str | None, window: float | None, late: int | None) -> str | None:
    from dgrec.replay.stats import questions

    if by is not None:
        return questions.by_query(by)
    if window is not None:
        return questions.window_query(window)
    # DuckDB takes no larger number; no recording has so many frames.
    return None if late is None else questions.late_query(min(late, sys.maxsize))


def _print_sql(
    query: str | None, why: bool, output: Path | None, overwrite: bool, keep: Sequence[Path]
) -> None:
    from dgrec.replay.output import open_output
    from dgrec.replay.stats import LOADS_QUERY, PIPELINES_QUERY, PUBLISHED_QUERY, queries, script

    asked = queries() if query is None else (query,)
    if why:
        asked = (LOADS_QUERY, PIPELINES_QUERY, PUBLISHED_QUERY)
    with open_output(output, overwrite=overwrite, keep=keep) as destination:
        destination.write(script(*asked))


def _report(
    session: Session,
    form: str,
    output: Path | None,
    overwrite: bool,
    keep: Sequence[Path | Session],
    charts: bool | None,
) -> None:
    """Write everything about one session."""
    from dgrec.replay.output import open_output
    from dgrec.replay.query import SqlReader
    from dgrec.replay.stats import measure, write_stats

    with SqlReader([session]) as reader:
        stats = measure(session, reader)
        with open_output(output, overwrite=overwrite, keep=keep) as destination:
            write_stats(stats, form, destination)
            if form == "table" and (destination.is_terminal if charts is None else charts):
                _draw(reader, destination)


def _draw(reader: SqlReader, destination: Destination) -> None:
    from dgrec.replay.stats import can_show_blocks, histogram, time_line

    width = shutil.get_terminal_size().columns
    blocks = can_show_blocks(destination.encoding)
    for chart in (histogram(reader, width), time_line(reader, width)):
        if chart is not None:
            destination.write("\n" + "".join(f"{line}\n" for line in chart.lines(blocks=blocks)))


def _follow(paths: tuple[Path, ...]) -> Path:
    """Show one recording on stderr until it ends; return where it is then."""
    from dgrec.errors import DgrecError
    from dgrec.replay.stats import (
        SEALING_S,
        TEXT_LINES,
        Follower,
        can_show_blocks,
        journal_of,
        screen,
        sealed_or_not,
        status_line,
    )

    if len(paths) > 1:
        raise click.UsageError("--follow shows one recording")
    (path,) = paths
    follower = None
    while follower is None:
        journal = journal_of(path)
        if journal is None:
            return path  # it has ended: what is there is measured
        try:
            follower = Follower(journal)
        except DgrecError:
            if os.path.lexists(journal):
                raise
            # It was sealed just now: a part that another one follows, or the whole recording.
    is_terminal = sys.stderr.isatty()
    blocks = can_show_blocks(sys.stderr.encoding)
    try:
        with contextlib.ExitStack() as stack:
            live = None
            if is_terminal:
                from rich.console import Group
                from rich.live import Live
                from rich.text import Text

                from dgrec.console import Console

                live = stack.enter_context(
                    Live(console=Console(stderr=True), auto_refresh=False, transient=True)
                )
            goes_on = True
            while goes_on:
                goes_on = follower.poll()
                snapshot = follower.snapshot()
                if live is not None:
                    lines = screen(str(path), snapshot, blocks=blocks)
                    # Words wrap; the columns of a chart are cut off.
                    shown = (
                        Text(line, no_wrap=number >= TEXT_LINES, overflow="crop")
                        for number, line in enumerate(lines)
                    )
                    live.update(Group(*shown), refresh=True)
                else:
                    echo(status_line(snapshot), err=True)
                if goes_on:
                    time.sleep(_REFRESH_S)
    except KeyboardInterrupt:
        echo("stopped looking; the recording goes on", err=True)
        raise SystemExit(0) from None
    finally:
        follower.close()
    return sealed_or_not(path, SEALING_S if follower.will_be_sealed else 0)
