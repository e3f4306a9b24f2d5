"""A session as one HTML file: plots, tables, the slowest frames, and the SQL behind each.

It is the page of `dgrec view` with its data inside: it opens offline and loads nothing. Whatever
comes from the session (labels, names, notes) is text wherever it stands, never markup or script.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dgrec.files import NewFile, check_new_file, output_errors
from dgrec.footage import Pixels, recorded_files, refuse_recorded
from dgrec.replay.report.sections import Section, report_of
from dgrec.replay.viewing import packed, single_page
from dgrec.session import Session


def write_report(
    session: Session,
    output: Path,
    *,
    pixels: Pixels | None = None,
    overwrite: bool = False,
) -> None:
    """Write the report of ``session`` to ``output``.

    Args:
        output: The HTML file to write; it appears when it is whole.
        pixels: Where the strip of the slowest frames comes from; without it there is none.
        overwrite: Whether ``output`` may be replaced.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    check_file(output, overwrite=overwrite, keep=recorded_files([session]))
    blocks: dict[str, str] = {}
    report = report_of(session, pixels)
    report["sections"] = [_plain(section, blocks) for section in report["sections"]]
    blocks["report"] = packed(report)
    write_file(output, single_page(blocks), overwrite=overwrite)


def _plain(section: Section, blocks: dict[str, str]) -> dict[str, Any]:
    """Return a section for the page; its pictures become blocks of it."""
    values = asdict(section)
    for number, picture in enumerate(values["pictures"]):
        picture["key"] = f"picture-{number}.jpg"
        blocks[picture["key"]] = base64.b64encode(picture.pop("jpeg")).decode()
    return values


def check_file(path: Path, *, overwrite: bool, keep: Sequence[Path]) -> None:
    """Raise `OutputError` if ``path`` cannot be written, before any work is done.

    ``keep`` is never written over, as it holds what was recorded.
    """
    refuse_recorded(path, keep)
    check_new_file(path, overwrite=overwrite)


def write_file(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write ``data`` so that the file appears when it is whole."""
    with output_errors(path), NewFile(path, replace=overwrite) as new:
        new.file.write(data)
