"""HTML tables that notebooks show for a session or a comparison."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dgrec.format import LARGEST_MEASUREMENT, Metadata

Latencies = np.ndarray[Any, np.dtype[np.float64]]


def session_card(
    path: Path,
    metadata: Metadata,
    *,
    frames: int,
    sealed: bool,
    damage: Sequence[str],
    totals: Mapping[str, int | None],
    latency_ms: Latencies | None,
) -> str:
    """Return an HTML table with the facts of a session. All texts are escaped.

    Args:
        totals: See `Session.totals`.
        latency_ms: The end-to-end latency of every frame; None to leave it out.
    """
    source, model = metadata.get("source", {}), metadata.get("model", {})
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
    if metadata.get("ended_at") and metadata.get("end_reason") != "recovered":
        return f"{metadata['ended_at']} ({metadata.get('end_reason')})"
    return "cut off" if sealed else "not sealed yet"


def _count(value: Any) -> str | None:
    return f"{value:,}" if isinstance(value, int) else None


def _counts(*values: Any) -> str | None:
    texts = [_count(value) for value in values]
    return None if None in texts else ", ".join(map(str, texts))


def _latency(latency_ms: Latencies | None) -> str | None:
    if latency_ms is None:
        return None
    known = latency_ms[np.abs(latency_ms) <= LARGEST_MEASUREMENT]
    if not len(known):
        return None
    p50, p95, p99 = np.quantile(known, [0.5, 0.95, 0.99])
    return f"p50 {p50:,.1f}, p95 {p95:,.1f}, p99 {p99:,.1f}"


def table_card(
    title: str, head: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str]
) -> str:
    """Return an HTML table, and a line below it for each note. All texts are escaped."""
    body = "".join(_cells("td", row) for row in rows)
    return (
        f"<table><caption><b>{html.escape(title)}</b></caption>"
        f"<thead>{_cells('th', head)}</thead><tbody>{body}</tbody></table>"
        + "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    )


def _cells(tag: str, texts: Iterable[str]) -> str:
    cells = (f'<{tag} style="text-align:left">{html.escape(text)}</{tag}>' for text in texts)
    return f"<tr>{''.join(cells)}</tr>"
