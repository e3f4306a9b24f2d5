"""A plot of a report as a PNG, by Vega-Lite."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from dgrec.errors import DgrecError
from dgrec.footage import recorded_files
from dgrec.replay.query import SqlReader
from dgrec.replay.report.page import check_file, write_file
from dgrec.replay.report.plots import CHARTS
from dgrec.replay.report.sections import chart_of, extent_of
from dgrec.replay.report.vega import Spec
from dgrec.session import Session


def write_plot(session: Session, name: str, output: Path, *, overwrite: bool = False) -> None:
    """Write the plot ``name`` (of `CHARTS`) as a PNG, twice as dense as on the page.

    Raises:
        OutputError: The file exists, or cannot be written.
        DgrecError: There is nothing to draw, or no library to draw it.
    """
    check_file(output, overwrite=overwrite, keep=recorded_files([session]))
    plan = next(plan for plan in CHARTS if plan.name == name)
    with SqlReader([session]) as reader:
        extent = extent_of(session, reader)
        section = chart_of(reader, plan, extent)
    if section.plot is None:
        raise DgrecError(f"{session.path}: no plot of {name}: {section.nothing}")
    spec = plan.spec(section.plot["rows"], extent)
    write_png(spec, section.title, output, overwrite=overwrite)


def write_png(spec: Spec, title: str, output: Path, *, overwrite: bool = False) -> None:
    """Write a plot as a PNG, twice as dense as on a page.

    Raises:
        OutputError: The file exists, or cannot be written.
        DgrecError: There is no library to draw it.
    """
    try:
        vl_convert: Any = importlib.import_module("vl_convert")
    except ImportError:
        raise DgrecError(
            "plots need a library that is not installed: `pip install 'dgrec[report]'`"
        ) from None
    # A picture stands alone: it needs a background of its own, and a title.
    spec = {**spec, "background": "white", "title": title, "padding": 12}
    write_file(output, vl_convert.vegalite_to_png(spec, scale=2), overwrite=overwrite)
