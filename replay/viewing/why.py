"""The limit of a recording: sentences and tables of ``dgrec stats``."""

from __future__ import annotations

from typing import Any

from dgrec.replay.output import Section
from dgrec.replay.query import SqlReader
from dgrec.replay.stats import explain, load_section, stage_durations, stage_section
from dgrec.replay.viewing.time_line import once
from dgrec.session import Session


@once
def why(session: Session, reader: SqlReader) -> dict[str, Any]:
    """Return what ``dgrec stats --why`` says of a session, and the table of its stages.

    Args:
        reader: A connection over just this session.

    Returns ``findings`` and ``caveats``, sentences; ``tables``, each with a ``title``, ``columns``,
    ``numeric`` (whether a column is aligned right) and ``rows`` of texts.

    Raises:
        SessionError: Part of the file cannot be read.
    """
    stages = table_cells(stage_section(stage_durations(session, reader)))
    pipelines = explain([session], reader)
    if not pipelines:
        return {"findings": ["There are no frames."], "caveats": [], "tables": [stages]}
    (pipeline,) = pipelines
    return {
        "findings": list(pipeline.findings),
        "caveats": list(pipeline.caveats),
        "tables": [table_cells(load_section(pipeline)), stages],
    }


def table_cells(section: Section) -> dict[str, Any]:
    """Return a table for the page."""
    return {
        "title": section.title,
        "columns": list(section.names),
        "numeric": [section.right(at) for at in range(len(section.names))],
        "rows": [list(row) for row in section.rows],
    }
