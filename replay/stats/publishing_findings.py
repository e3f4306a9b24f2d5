"""Sentences on what was published of a recording: how long after capture, and what was not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dgrec.session import Session
from dgrec.units import counted, ms_text

PUBLISHED_QUERY = """\
SELECT session_id, count(published_ms) AS frames, quantile_cont(published_ms, 0.5) AS p50_ms,
       quantile_cont(published_ms, 0.95) AS p95_ms,
       quantile_cont(published_ms - latency_ms, 0.5) AS after_result_ms
FROM frames WHERE published_ms IS NOT NULL GROUP BY session_id"""


def published(session: Session, row: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield these sentences for a session.

    Args:
        row: Its row of `PUBLISHED_QUERY`, if there is one.
    """
    if row is not None:
        yield (
            f"Published: {ms_text(row['p50_ms'])} from capture until the slowest target had taken "
            f"a frame (p95 {ms_text(row['p95_ms'])}), {ms_text(row['after_result_ms'])} of that "
            "after its result."
        )
    for target in session.metadata.get("targets", []):
        frames, delivered = target.get("frames"), target.get("delivered")
        if frames is None or delivered is None or delivered >= frames:
            continue
        from dgrec.publishing import missing_command

        command = missing_command(str(session.path), str(target.get("target")))
        yield (
            f"{target.get('target')} did not get {frames - delivered:,} of "
            f"{counted(frames, 'frame')}: {command} sends them."
        )
