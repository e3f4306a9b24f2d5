"""`dgrec alerts`: when rules would have fired in recordings."""

from __future__ import annotations

from pathlib import Path

import click

from dgrec.errors import SessionError
from dgrec.options import Command, usage_errors
from dgrec.replay.options import output_options, say_damage, sessions_argument


@click.command(
    "alerts",
    cls=Command,
    short_help="Try rules of alerts on recordings: when would each have fired?",
    epilog="Example: dgrec alerts session.parquet --alert \"crowd=count('face') >= 3 for 1s\"",
)
@sessions_argument
@click.option(
    "--alert",
    "rules",
    multiple=True,
    required=True,
    metavar="NAME=RULE|FILE.yaml",
    help='"crowd=count(\'person\') >= 3 for 2s", "slow=latency_p95_ms > 200 for 10s", '
    '"silent=missing 30s", or a file of EventDetector\'s events. Repeatable. docs/alerts.md has '
    "the grammar.",
)
@output_options("table", "json", "markdown")
def alerts_command(
    sessions: tuple[Path, ...],
    rules: tuple[str, ...],
    form: str,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Show when rules would have fired in each SESSION (files, folders, globs in quotes).

    The same rules fire live at the same frames: `dgrec record --alert NAME=RULE`.
    """
    from dgrec.alerts import parse_rules
    from dgrec.replay.alerts import try_rules, write_alerts
    from dgrec.replay.output import open_output
    from dgrec.session import open_sessions
    from dgrec.terminal import echo

    with usage_errors():
        parsed = parse_rules(rules)
    opened = open_sessions(sessions, lambda line: echo(line, err=True), with_clips=True)
    for session in opened:
        say_damage(session)
    tried, problems = [], []
    for session in opened:
        try:
            tried.append(try_rules(session, parsed, lambda line: echo(line, err=True)))
        except SessionError as error:  # damage is noticed when it is read
            problems.append(error)
    if not tried:
        raise problems[0]
    for problem in problems:
        echo(f"{problem}; left out", err=True)
    with open_output(output, overwrite=overwrite, keep=opened) as destination:
        write_alerts(tried, parsed, form, destination)
