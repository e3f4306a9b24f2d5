"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["TABLE_ROWS", "output_options", "say_damage", "session_argument"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: Rows of a table unless --limit says otherwise.
TABLE_ROWS = 1000


def session_argument(command: _Command) -> _Command:
    """Add SESSION. The library says whether it can be read, so that the exit code is 1, not 2."""
    return click.argument("session", type=click.Path(path_type=Path))(command)


def output_options(*formats: str) -> Callable[[_Command], _Command]:
    """Add ``--format`` with these choices, ``--output`` and ``--overwrite``."""

    def decorate(command: _Command) -> _Command:
        for option in (
            click.option("--overwrite", is_flag=True, help="Replace the output if it exists."),
            click.option(
                "--output",
                "-o",
                type=click.Path(path_type=Path),
                help="File to write; - is standard output.  [default: -]",
            ),
            click.option(
                "--format",
                "form",
                type=click.Choice(formats),
                help="[default: what the suffix of --output says, else table]",
            ),
        ):
            command = option(command)
        return command

    return decorate


def say_damage(session: Session) -> None:
    """Say on stderr what of a session cannot be read, and so is missing from what follows."""
    damage = session.damage
    if damage:
        more = f" (and {len(damage) - 1} more: dgrec info)" if len(damage) > 1 else ""
        click.echo(
            f"{session.path}: {damage[0]}{more}; the result is of what can be read", err=True
        )
