"""What a notebook shows of a session or a comparison: a small table instead of a line of text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dgrec.metadata import Metadata

if TYPE_CHECKING:
    from dgrec.comparison.comparison import Comparison, Row

__all__ = ["comparison_card", "session_card"]

Latencies = np.ndarray[Any, np.dtype[np.float64]]


def session_card(
    path: Path,
    metadata: Metadata,
    *,
    frames: int,
    sealed: bool,
    damage: Sequence[str],
    latency_ms: Latencies | None,
) -> str:
    """Return HTML that shows what a session is. Its texts are escaped: they are never markup.

    Args:
        latency_ms: The latency of every frame, end to end; None to leave it out.
    """
    source, model = metadata.get("source", {}), metadata.get("model", {})
    totals = metadata.get("totals", {})
    facts = {
        "source": source.get("given"),
        "model": model.get("name"),
        "device": model.get("device"),
        "started": metadata.get("started_at"),
        "ended": _ending(metadata, sealed=sealed),
        "frames": f"{frames:,}",
        "detections": _count(totals.get("detections")),
        "skipped, dropped": _counts(totals.get("skipped"), totals.get("dropped")),
        "latency, ms": _latency(latency_ms),
        "file": path.name,
        "damage": "; ".join(damage),
    }
    rows = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in facts.items()
        if value not in (None, "")
    )
    name = html.escape(str(metadata.get("name") or path.name))
    return f"<table><caption><b>{name}</b></caption><tbody>{rows}</tbody></table>"


def _ending(metadata: dict[str, Any], *, sealed: bool) -> str:
    if metadata.get("ended_at"):
        return f"{metadata['ended_at']} ({metadata.get('end_reason')})"
    return "cut off" if sealed else "not sealed yet"


def _count(value: Any) -> str | None:
    return f"{value:,}" if isinstance(value, int) else None


def _counts(*values: Any) -> str | None:
    texts = [_count(value) for value in values]
    return None if None in texts else ", ".join(map(str, texts))


def _latency(latency_ms: Latencies | None) -> str | None:
    if latency_ms is None or not len(latency_ms):
        return None
    p50, p95, p99 = np.quantile(latency_ms, [0.5, 0.95, 0.99])
    return f"p50 {p50:,.1f}, p95 {p95:,.1f}, p99 {p99:,.1f}"


def comparison_card(comparison: Comparison) -> str:
    """Return HTML that shows what ``comparison`` found. Its texts are escaped, too."""
    head = _cells("th", ("metric", "BASE", "NEW", "change", "verdict", "why"))
    body = "".join(_cells("td", _comparison_row(row)) for row in comparison.rows)
    names = [", ".join(r.path for r in side) for side in (comparison.base, comparison.new)]
    lines = [f"What differs: {', '.join(d.key for d in comparison.differences) or 'nothing'}."]
    agreement = comparison.agreement
    if agreement is not None and agreement.f1 is not None:
        lines.append(f"Agreement (F1) of {agreement.frames:,} frames: {agreement.f1:.4f}.")
    return (
        f"<table><caption><b>{html.escape(' against '.join(names))}</b></caption>"
        f"<thead>{head}</thead><tbody>{body}</tbody></table>"
        + "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    )


def _cells(tag: str, texts: Iterable[str]) -> str:
    cells = (f'<{tag} style="text-align:left">{html.escape(text)}</{tag}>' for text in texts)
    return f"<tr>{''.join(cells)}</tr>"


def _comparison_row(row: Row) -> tuple[str, ...]:
    base, new = (
        "-" if side.value is None else f"{side.value:,.4g} {row.unit}"
        for side in (row.base, row.new)
    )
    change = "-" if row.change is None else f"{row.change:+.1%}"
    return row.metric, base, new, change, row.verdict, row.reason or ""
