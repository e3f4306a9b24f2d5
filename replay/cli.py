"""The commands that read sessions."""

from __future__ import annotations

from pathlib import Path

import click

from dgrec.options import NamedPath
from dgrec.replay.commands.alerts import alerts_command
from dgrec.replay.commands.analyze import analyze_command
from dgrec.replay.commands.clip import clip_command
from dgrec.replay.commands.compare import compare_command
from dgrec.replay.commands.export import export_command
from dgrec.replay.commands.publish import publish_command
from dgrec.replay.commands.query import query_command
from dgrec.replay.commands.replay import replay_command
from dgrec.replay.commands.report import report_command
from dgrec.replay.commands.stats import stats_command
from dgrec.replay.commands.whatif import whatif_command
from dgrec.replay.options import output_options, session_argument
from dgrec.terminal import echo
from dgrec.units import counted

__all__ = ["COMMANDS"]


@click.command(
    "info",
    short_help="Show what is known about a recording, and the size of its columns.",
    epilog="Example: dgrec info session.parquet",
)
@session_argument
@output_options("table", "json")
def info_command(session: Path, form: str, output: Path | None, overwrite: bool) -> None:
    """Show how SESSION was recorded, whether it is whole, and the size of its columns.

    --format json has all of the metadata, which the table shortens.
    """
    import dgrec
    from dgrec.replay.info import describe, write_info
    from dgrec.replay.output import open_output

    with dgrec.open(session) as opened:
        info = describe(opened)
        with open_output(output, overwrite=overwrite, keep=(session, *opened.files)) as destination:
            write_info(info, form, destination)


@click.command(
    "verify",
    short_help="Check whether sessions are whole, and true to their metadata.",
    epilog="Example: dgrec verify session.parquet",
)
@click.argument("sessions", nargs=-1, required=True, type=NamedPath(path_type=Path))
def verify_command(sessions: tuple[Path, ...]) -> None:
    """Check SESSIONS: checksums, numbering, stamps, counts, and videos recorded beside them.

    Prints one line for each session, and one for each thing that is wrong. What could not be
    decoded of a source is a note: the session is whole. Exit code 0: all are whole. 1: at least
    one is not.
    """
    from dgrec.replay.verify import check

    whole = True
    for session in sessions:
        findings = check(session)
        problems = findings.problems
        whole = whole and not problems
        found = counted(len(problems), "problem")
        echo(f"{session}: {found if problems else 'whole'}")
        for problem in problems:
            echo(f"  {problem}")
        for note in findings.notes:
            echo(f"  note: {note}")
    raise SystemExit(0 if whole else 1)


COMMANDS: tuple[click.Command, ...] = (
    replay_command,
    clip_command,
    export_command,
    analyze_command,
    query_command,
    stats_command,
    compare_command,
    whatif_command,
    alerts_command,
    report_command,
    publish_command,
    info_command,
    verify_command,
)
