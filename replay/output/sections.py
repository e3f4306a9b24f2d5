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
    from rich.text import Text


#: Colours of cells on a terminal.
_COLOURS = {"SLOWER": "red", "FASTER": "green", "UNCLEAR": "yellow", "damaged": "red"}
#: A column of text is not made narrower than this.
_NARROWEST_TEXT = 20


@dataclass
class Section:
    """A small table; without ``names`` its rows are pairs of a key and a value.

    A terminal that is too narrow for a table gets it with long texts on several lines, or else the
    table in ``narrow``, or else all of it, one value a line: numbers are never broken.
    """

    title: str
    names: Sequence[str]
    rows: Sequence[Sequence[str]]
    #: Which columns hold numbers; by default all but the first.
    numeric: Sequence[bool] | None = None
    #: The same with fewer columns.
    narrow: Section | None = None

    def right(self, column: int) -> bool:
        if self.numeric is None:
            return bool(self.names) and column > 0
        return self.numeric[column]


def write_report(
    sections: Iterable[Section],
    notes: Iterable[str],
    form: str,
    destination: Destination,
    *,
    conclusion: Iterable[str] = (),
) -> None:
    """Write the conclusion, the first sentence in bold, tables, then notes.

    Args:
        form: ``table`` or ``markdown``.
    """
    if form == "markdown":
        for each in conclusion:
            destination.write(f"{in_markdown(each)}\n\n")
        for section in sections:
            names = section.names or ("", "")
            right = [section.right(i) for i in range(len(names))]
            title = f"## {in_markdown(section.title)}\n\n" if section.title else ""
            destination.write(f"{title}{markdown_table(names, section.rows, right)}\n")
        for note in notes:
            destination.write(f"{in_markdown(note)}\n\n")
        return
    from rich.text import Text

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
        lead = [*conclusion]
        for number, each in enumerate(lead):
            console.print(Text(line(each), "" if number else "bold"))
        if lead:
            console.print()
        for section in sections:
            console.print(_rich_table(section, width))
            console.print()
        for note in notes:
            console.print(line(note))
    # rich pads lines to the width of the table.
    text = capture.get()
    destination.write_styled("".join(row.rstrip(" ") + "\n" for row in text.split("\n")[:-1]))


def _rich_table(section: Section, width: int) -> Table:
    if not section.names:
        return _pairs(section)
    tried: Section | None = section
    while tried is not None:
        if (table := _table(tried, width)) is not None:
            return table
        tried = tried.narrow
    return _pairs(_vertical(section))


def _table(section: Section, width: int) -> Table | None:
    """Return a table that fits, or None."""
    widths = _widths(section)
    for gap in (3, 2):
        if sum(widths) + gap * (len(widths) - 1) <= width:
            return _columns(section, [None] * len(widths), gap)
    between = 2 * (len(widths) - 1)
    folds = [not section.right(at) and section.names[at] != "" for at in range(len(widths))]
    # The first column names the rows.
    folds[0] = folds[0] and len(widths) == 2
    texts = [at for at in range(len(widths)) if folds[at] and widths[at] > _NARROWEST_TEXT]
    rest = width - between - sum(w for at, w in enumerate(widths) if at not in texts)
    if texts and rest >= _NARROWEST_TEXT * len(texts):
        limits = _shares({at: widths[at] for at in texts}, rest)
        return _columns(section, [limits.get(at) for at in range(len(widths))], 2)
    return None


def _widths(section: Section) -> list[int]:
    from rich.cells import cell_len

    columns = zip(section.names, *section.rows, strict=True)
    return [max(cell_len(line(cell)) for cell in column) for column in columns]


def _shares(wanted: dict[int, int], room: int) -> dict[int, int]:
    """Return how wide columns may be: none wider than wanted, the rest shared evenly."""
    shares: dict[int, int] = {}
    for left, at in enumerate(sorted(wanted, key=lambda at: wanted[at])):
        shares[at] = min(wanted[at], room // (len(wanted) - left))
        room -= shares[at]
    return shares


def _vertical(section: Section) -> Section:
    """Return a table with a line for each value of each row."""
    rows = []
    for number, row in enumerate(section.rows):
        rows += [("", "")] if number else []
        rows += [(name, cell) for name, cell in zip(section.names, row, strict=True) if cell]
    return Section(section.title, (), rows)


def _columns(section: Section, limits: Sequence[int | None], gap: int) -> Table:
    """Return a table with columns no wider than their limits, and a gap of 2 or 3 between."""
    from rich.text import Text

    table = _empty_table(section.title, has_header=True)
    table.padding = (0, 1, 0, gap - 2)
    for at, (name, limit) in enumerate(zip(section.names, limits, strict=True)):
        table.add_column(
            Text(line(name)),
            justify="right" if section.right(at) else "left",
            overflow="fold",
            no_wrap=limit is None,
            max_width=limit,
        )
    for row in section.rows:
        table.add_row(*map(_cell, row))
    return table


def _pairs(section: Section) -> Table:
    table = _empty_table(section.title, has_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in section.rows:
        table.add_row(*map(_cell, row))
    return table


def _empty_table(title: str, *, has_header: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    return Table(
        title=Text(line(title), "bold") if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        show_header=has_header,
        pad_edge=False,
    )


def _cell(text: str) -> Text:
    from rich.text import Text

    return Text(line(text), _COLOURS.get(text, ""))
