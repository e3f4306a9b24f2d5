"""Tables of texts: plain ones, and those of GitHub."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest

from rich.cells import cell_len

from dgrec.replay.output.destination import Destination
from dgrec.replay.output.values import in_markdown
from dgrec.terminal import shown


def markdown_table(
    names: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[bool]
) -> str:
    """Return a GitHub table; ``numeric`` columns are aligned right."""
    rule = "|" + "|".join(" ---: " if right else " --- " for right in numeric) + "|\n"
    return markdown_line(names) + rule + "".join(map(markdown_line, rows))


def markdown_line(cells: Sequence[str]) -> str:
    """Return one row of a GitHub table; line breaks in cells become ``<br>``."""
    texts = (in_markdown(cell).replace("|", "\\|").replace("\n", "<br>") for cell in cells)
    return "| " + " | ".join(texts) + " |\n"


def plain_table(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    destination: Destination,
    first: int,
) -> str:
    """Return a table as wide as necessary; ``first`` is the number of its first row.

    On a terminal that is too narrow, each row becomes a block, and nothing is cut off. (rich would
    squeeze the columns, and takes 1.2 s for 1,000 rows of 25 columns; this takes 0.1 s.)
    """
    grid = [[shown(cell).split("\n") for cell in row] for row in (names, *rows)]
    if destination.is_terminal:  # the lines of a cell could be mistaken for rows
        grid = [[["\\n".join(cell)] for cell in row] for row in grid]
    widths = [
        max(cell_len(line) for cell in column for line in cell)
        for column in zip(*grid, strict=True)
    ]
    if destination.is_terminal and sum(widths) + 2 * len(widths) > terminal_width():
        return _blocks(grid, first)
    header, *body = (_table_lines(row, widths, numeric) for row in grid)
    rule = "  ".join("─" * width for width in widths)
    return "\n".join([*header, rule, *chain.from_iterable(body)]) + "\n"


def terminal_width() -> int:
    """Return the width of the terminal in characters; 80 without one."""
    return shutil.get_terminal_size().columns


def _table_lines(
    row: Sequence[list[str]], widths: Sequence[int], numeric: Sequence[bool]
) -> Iterator[str]:
    for parts in zip_longest(*row, fillvalue=""):
        padded = (
            " " * (width - cell_len(part)) + part
            if right
            else part + " " * (width - cell_len(part))
            for part, width, right in zip(parts, widths, numeric, strict=True)
        )
        yield "  ".join(padded).rstrip()


def _blocks(grid: Sequence[Sequence[list[str]]], first: int) -> str:
    names = [" ".join(name) for name in grid[0]]
    width = max(map(cell_len, names))
    lines = []
    for number, row in enumerate(grid[1:], first + 1):
        lines.append(f"── row {number:,} ──")
        for name, cell in zip(names, row, strict=True):
            indent = "\n" + " " * (width + 2)
            lines.append(name + " " * (width - cell_len(name) + 2) + indent.join(cell))
    return "\n".join(lines) + "\n"
