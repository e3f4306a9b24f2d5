"""Writes small tables, and notes after them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dgrec.replay.output.destination import Destination
from dgrec.replay.output.tables import markdown_table, terminal_width
from dgrec.replay.output.values import in_markdown
from dgrec.terminal import line

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Section", "write_report"]


@dataclass
class Section:
    """A small table; without ``names`` its rows are pairs of a key and a value."""

    title: str
    names: Sequence[str]
    rows: Sequence[Sequence[str]]
    #: Which columns hold numbers; by default all but the first.
    numeric: Sequence[bool] | None = None

    def right(self, column: int) -> bool:
        if self.numeric is None:
            return bool(self.names) and column > 0
        return self.numeric[column]


def write_report(
    sections: Iterable[Section], notes: Iterable[str], form: str, destination: Destination
) -> None:
    """Write tables, then notes, as ``table`` or ``markdown``."""
    if form == "markdown":
        for section in sections:
            names = section.names or ("", "")
            right = [section.right(i) for i in range(len(names))]
            table = markdown_table(names, section.rows, right)
            destination.write(f"## {in_markdown(section.title)}\n\n{table}\n")
        for note in notes:
            destination.write(f"{in_markdown(note)}\n\n")
        return
    from dgrec.console import Console

    # In a file, tables are as wide as necessary.
    width = terminal_width() if destination.is_terminal else 10_000
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=destination.is_terminal,
        soft_wrap=not destination.is_terminal,
    )
    with console.capture() as capture:
        for section in sections:
            console.print(_rich_table(section))
            console.print()
        for note in notes:
            console.print(line(note))
    # rich pads lines to the width of the table.
    text = capture.get()
    destination.write_styled("".join(row.rstrip(" ") + "\n" for row in text.split("\n")[:-1]))


def _rich_table(section: Section) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(line(section.title), "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        show_header=bool(section.names),
        pad_edge=False,
    )
    for index, name in enumerate(section.names or ("", "")):
        right = section.right(index)
        table.add_column(Text(line(name)), justify="right" if right else "left", overflow="fold")
    for row in section.rows:
        table.add_row(*(Text(line(cell)) for cell in row))
    return table
