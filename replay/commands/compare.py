"""`dgrec compare`: BASE against NEW, one recording a side or several."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dgrec.options import Command, NamedPath, SessionPath
from dgrec.replay.options import clips_option, links_option, output_options, say_clip, say_damage
from dgrec.terminal import echo

if TYPE_CHECKING:
    from dgrec.replay.links import Links
    from dgrec.session import Session

#: The exit code if a --fail-on condition holds.
_FAILED_EXIT_CODE = 3


class _SeveralValues(Command):
    """Lets ``--base`` and ``--new`` take all values up to the next option, as a shell expands them.

    click gives an option a fixed number of values.
    """

    _NAMES = ("--base", "--new")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(self._spread(args)))

    def _spread(self, args: Sequence[str]) -> Sequence[str]:
        spread: list[str] = []
        name: str | None = None
        is_first = False
        for arg in args:
            given, equals, _ = arg.partition("=")
            if given in self._NAMES:
                name, is_first = given, not equals
                spread.append(arg)
            elif name is None or arg.startswith("-"):
                name = None
                spread.append(arg)
            else:
                spread += [arg] if is_first else [name, arg]
                is_first = False
        return spread


@click.command(
    "compare",
    cls=_SeveralValues,
    short_help="Did it become slower? Does it still find the same?",
    epilog="Example: dgrec compare before.parquet after.parquet --fail-on "
    '"latency_p95_ms > +10% and > +2ms"',
)
@click.argument(
    "sessions", nargs=-1, metavar="[BASE NEW | SESSION...]", type=SessionPath(path_type=Path)
)
@click.option(
    "--base",
    multiple=True,
    type=SessionPath(path_type=Path),
    metavar="SESSION...",
    help="Several sessions before the change; the session is then the unit.",
)
@click.option(
    "--new",
    multiple=True,
    type=SessionPath(path_type=Path),
    metavar="SESSION...",
    help="Several sessions after it.",
)
@click.option(
    "--fail-on",
    multiple=True,
    metavar="CONDITION",
    help='Exit with 3 if this holds: "latency_p95_ms > +10% and > +2ms", "agreement < 0.99". '
    "With a sign it is the change, which must be more than chance; without one, the value of NEW. "
    "Exit with 1 if that is unknown.",
)
@click.option(
    "--truth",
    type=NamedPath(path_type=Path),
    metavar="FILE",
    help="Compare one SESSION or several with ground truth instead: precision, recall, AP50 and "
    "AP50:95 as COCO counts them. FILE is of any format that dgrec import reads, or a session.",
)
@clips_option
@links_option
@output_options("table", "json", "markdown")
def compare_command(
    sessions: tuple[Path, ...],
    base: tuple[Path, ...],
    new: tuple[Path, ...],
    fail_on: tuple[str, ...],
    truth: Path | None,
    with_clips: bool,
    links: Links | None,
    form: str,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Compare NEW with BASE: what differs in how they were recorded, how fast each was, and, where
    both saw the same file, how far they found the same.

    Every metric has an interval and one verdict: FASTER, SLOWER, SAME (the change is within 2%,
    whole interval) or UNCLEAR, with the reason. Frames of the warm-up are left out and counted.

    One session a side shows the difference between these two recordings. Runs of the same thing
    differ, too: --base A1 A2 ... --new B1 B2 ... takes that into account, with three a side at
    least, better five. A folder or a glob in quotes stands for all sessions in it.

    Exit code 3: a --fail-on condition holds. docs/compare.md has the metrics and the method.
    """
    if truth is not None:
        if base or new or fail_on or links or not sessions:
            raise click.UsageError("--truth goes with one SESSION or several, and nothing else")
        _judge(sessions, truth, form, output, with_clips=with_clips, overwrite=overwrite)
        return
    if sessions and (base or new):
        raise click.UsageError("give BASE and NEW, or --base and --new, not both")
    if not (base or new):
        if len(sessions) != 2:
            raise click.UsageError("give two sessions, BASE and NEW, or several with --base, --new")
        base, new = sessions[:1], sessions[1:]
    if not base or not new:
        raise click.UsageError(f"give --{'new' if base else 'base'}, too")

    from dgrec.comparison import check_limits, parse_limit
    from dgrec.errors import ConfigError, DgrecError

    try:
        limits = [parse_limit(text) for text in fail_on]
    except ConfigError as error:
        raise click.UsageError(f"--fail-on: {error}") from None

    import dgrec
    from dgrec.replay.compare import write_comparison
    from dgrec.replay.output import open_output

    with contextlib.ExitStack() as stack:
        sides = [_open_side(side, with_clips, stack) for side in (base, new)]
        opened = [session for side in sides for session in side]
        for session in opened:
            say_damage(session)
        comparison = dgrec.compare(*sides)
        checked = list(zip(limits, check_limits(limits, comparison), strict=True))
        with open_output(output, overwrite=overwrite, keep=opened) as destination:
            see = None if links is None else _seeing(links, sides[0][0], sides[1][0])
            write_comparison(comparison, form, destination, checked, see)
    failed = [limit.text for limit, outcome in checked if outcome.holds]
    for text in failed:
        echo(f"failed: {text}", err=True)
    if failed:
        raise SystemExit(_FAILED_EXIT_CODE)
    problems = [outcome.problem for _, outcome in checked if outcome.problem is not None]
    if problems:
        raise DgrecError(f"--fail-on {'; '.join(problems)}")


def _judge(
    paths: Sequence[Path],
    truth: Path,
    form: str,
    output: Path | None,
    *,
    with_clips: bool,
    overwrite: bool,
) -> None:
    """Compare sessions with ground truth."""
    import dgrec
    from dgrec.replay.compare import write_accuracy
    from dgrec.replay.output import open_output
    from dgrec.session import open_sessions

    with contextlib.ExitStack() as stack:
        opened = open_sessions(paths, _refuse, with_clips=with_clips, on_clip=say_clip)
        for session in opened:
            stack.enter_context(session)
            say_damage(session)
        found = [dgrec.accuracy(session, truth) for session in opened]
        with open_output(output, overwrite=overwrite, keep=(*opened, truth)) as destination:
            write_accuracy(found, form, destination)


def _seeing(links: Links, base: Session, new: Session) -> Callable[[int], str]:
    """Return a function that links to a frame of BASE, by its position, shown beside NEW's."""

    def see(position: int) -> str:
        return links.to(base.path, int(base.row(position)["frame"]), new.path)

    return see


def _open_side(
    paths: Sequence[Path], with_clips: bool, stack: contextlib.ExitStack
) -> list[Session]:
    from dgrec.errors import SessionError
    from dgrec.files import resolved
    from dgrec.session import open_sessions

    for number, path in enumerate(paths):
        if resolved(path) in (resolved(other) for other in paths[:number]):
            raise SessionError(f"{path}: is named twice; a side needs different recordings")
    opened = open_sessions(paths, _refuse, with_clips=with_clips, on_clip=say_clip)
    for session in opened:
        stack.enter_context(session)
    return opened


def _refuse(line: str) -> None:
    # A verdict must not be about fewer sessions than were asked for.
    from dgrec.errors import SessionError

    raise SessionError(line.removesuffix("; left out"))
