"""Looking at a damaged session the way every reader does; shared with bench/journal_damage.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dgrec.errors import DgrecError
from dgrec.session import open_session

__all__ = ["read_all", "wrong_rows"]


def read_all(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return (rows, damage reported); an error that dgrec raises on purpose counts as a report."""
    try:
        with open_session(path) as session:
            rows = [frame.row for frame in session]
            return rows, session.damage
    except DgrecError as error:
        return [], [str(error)]


def wrong_rows(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with the rows that were read: altered, doubled, out of order."""
    numbers = [row["frame"] for row in rows]
    problems = [] if numbers == sorted(set(numbers)) else [f"order {numbers}"]
    for row in rows:
        if not 0 <= row["frame"] < len(expected) or row != expected[row["frame"]]:
            problems.append(f"frame {row['frame']} is not what was written")
    return problems
