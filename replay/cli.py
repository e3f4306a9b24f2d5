"""The commands that read sessions."""

from __future__ import annotations

from dataclasses import asdict
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dgrec.errors import DgrecError, ForeignFileError, NotASessionError
from dgrec.options import Command, SessionPath
from dgrec.replay.commands.alerts import alerts_command
from dgrec.replay.commands.analyze import analyze_command
from dgrec.replay.commands.clip import clip_command
from dgrec.replay.commands.compare import compare_command
from dgrec.replay.commands.export import export_command
from dgrec.replay.commands.imports import import_command, merge_command
from dgrec.replay.commands.publish import publish_command
from dgrec.replay.commands.query import query_command
from dgrec.replay.commands.replay import replay_command
from dgrec.replay.commands.report import report_command
from dgrec.replay.commands.stats import stats_command
from dgrec.replay.commands.view import view_command
from dgrec.replay.commands.whatif import whatif_command
from dgrec.replay.options import output_options, sessions_argument
from dgrec.terminal import echo, is_quiet, note
from dgrec.units import counted

if TYPE_CHECKING:
    from dgrec.replay.output import Destination
    from dgrec.replay.verify import Findings
    from dgrec.session import Session


@click.command(
    "list",
    cls=Command,
    short_help="List recordings: when, how long, which model, how fast, what was lost.",
    epilog="Example: dgrec list recordings",
)
@click.argument("places", nargs=-1, metavar="[FOLDER...]", type=SessionPath(path_type=Path))
@output_options("table", "json", "markdown")
def list_command(places: tuple[Path, ...], form: str, output: Path | None, overwrite: bool) -> None:
    """List the recordings in each FOLDER, with their state; without one, here and in recordings/.

    FOLDER may also be a session or a glob in quotes. A recording in parts is one line. The state
    is sealed, being recorded, cut off (dgrec recover makes a session file of it) or damaged, as far
    as that shows without reading every row: dgrec verify does that. With --quiet, only the names.
    """
    from dgrec.replay.listing import NOT_A_SESSION, list_session, write_listing
    from dgrec.replay.output import open_output
    from dgrec.session import find_sessions, names_something

    for place in places:
        if not names_something(str(place)):
            raise NotASessionError(f"{place}: there is no such folder or session")
    named = places or tuple(filter(Path.is_dir, (Path(), Path("recordings"))))
    found, problems = find_sessions(named)
    listed = sorted(map(list_session, found), key=lambda each: (each.started_at or "", each.path))
    for problem in problems if places else ():
        note(str(problem))
    if not listed and form != "json":
        note("No recordings here; `dgrec record sample` makes one.")
        return
    with open_output(output, overwrite=overwrite, keep=found) as destination:
        if is_quiet() and form == "table":
            for each in listed:
                if each.state != NOT_A_SESSION:
                    destination.write(f"{each.path}\n")
        else:
            write_listing(listed, form, destination)


@click.command(
    "info",
    cls=Command,
    short_help="Show what is known about a recording, and the size of its columns.",
    epilog="Example: dgrec info session.parquet",
)
@sessions_argument
@output_options("table", "json")
def info_command(
    sessions: tuple[Path, ...], form: str, output: Path | None, overwrite: bool
) -> None:
    """Show how each SESSION was recorded, whether it is whole, and the size of its columns.

    SESSION is a file, a recording in parts, a folder or a glob in quotes. --json has all of the
    metadata, which the table shortens: one object, or of several sessions, a folder or a glob an
    array of them.
    """
    import dgrec
    from dgrec.replay.info import describe, write_info
    from dgrec.replay.output import open_output
    from dgrec.session import open_found

    found, is_alone = _found(sessions)
    named = _named(sessions)
    infos, problems = [], []
    kept: list[Path | Session] = [*sessions]
    for path in found:
        try:
            with dgrec.open(path) if path in named else open_found(path) as opened:
                infos.append(describe(opened))
                kept.append(opened)
        except DgrecError as error:
            if is_alone:
                raise
            if isinstance(error, ForeignFileError) and path not in named:
                note(f"{error}; left out")
            else:
                problems.append(error)
    with open_output(output, overwrite=overwrite, keep=kept) as destination:
        write_info(infos[0] if is_alone else infos, form, destination)
    for problem in problems:
        echo(f"Error: {problem}", err=True, colour="red")
    if problems:
        raise SystemExit(1)


@click.command(
    "verify",
    cls=Command,
    short_help="Check whether sessions are whole, and true to their metadata.",
    epilog="Example: dgrec verify session.parquet",
)
@sessions_argument
@output_options("table", "json")
def verify_command(
    sessions: tuple[Path, ...], form: str, output: Path | None, overwrite: bool
) -> None:
    """Check each SESSION: checksums, numbering, stamps, counts, and videos recorded beside it.

    SESSION is a file, a recording in parts, a folder or a glob in quotes. Prints one line for each,
    and one for each thing that is wrong; with --quiet, only those that are not whole. What could
    not be decoded of a source is a note: the session is whole. Other programs' Parquet in a folder
    is left out, and reported. Exit code 0: all are whole. 1: at least one is not.
    """
    from dgrec.replay.output import json_text, open_output
    from dgrec.replay.verify import check
    from dgrec.session import current_path

    found, _ = _found(sessions)
    named = _named(sessions)
    checked: list[tuple[Path, Findings]] = []
    with open_output(output, overwrite=overwrite, keep=found) as destination:
        for path in found:
            findings = check(path)
            # Its recorder may have sealed it since it was found.
            if findings.problems and path not in named and (now := current_path(path)) != path:
                path, findings = now, check(now)
            if not findings.is_session and path not in named:
                note(f"{path}: {findings.problems[0]}; left out")
                continue
            checked.append((path, findings))
            if form == "table":
                _say_findings(path, findings, destination)
        if form == "json":
            rows = [
                {"path": str(path), "whole": not found.problems, **asdict(found)}
                for path, found in checked
            ]
            destination.write(json_text(rows, indent=2) + "\n")
    if not checked:
        raise NotASessionError(f"{', '.join(map(str, sessions))}: there is no session")
    if form == "table" and len(checked) > 1:
        bad = sum(bool(findings.problems) for _, findings in checked)
        note(f"{counted(len(checked), 'session')}, {bad or 'none'} with problems")
    raise SystemExit(1 if any(findings.problems for _, findings in checked) else 0)


def _say_findings(path: Path, findings: Findings, destination: Destination) -> None:
    problems = findings.problems
    if is_quiet() and not problems:
        return
    state = counted(len(problems), "problem") if problems else "whole"
    destination.write_line(f"{path}: {state}", "red" if problems else "green")
    for problem in problems:
        destination.write_line(f"  {problem}")
    for each in findings.notes:
        destination.write_line(f"  note: {each}")


def _found(paths: tuple[Path, ...]) -> tuple[list[Path], bool]:
    """Return the sessions that paths name, and whether they name just one, by its own path."""
    from dgrec.session import find_sessions

    found, problems = find_sessions(paths)
    if problems:
        raise problems[0]
    (first, *others) = paths
    is_pattern = has_magic(str(first)) and not first.exists()
    return found, not (others or first.is_dir() or is_pattern)


def _named(paths: tuple[Path, ...]) -> set[Path]:
    """Return the files that are named directly, not by a folder or a glob."""
    from dgrec.session import session_file

    return {session_file(path) for path in paths}


COMMANDS: tuple[click.Command, ...] = (
    replay_command,
    view_command,
    clip_command,
    export_command,
    analyze_command,
    query_command,
    stats_command,
    compare_command,
    whatif_command,
    import_command,
    merge_command,
    alerts_command,
    report_command,
    publish_command,
    list_command,
    info_command,
    verify_command,
)
