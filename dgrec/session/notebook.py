"""HTML tables that notebooks show for a session or a comparison."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgrec.format import LARGEST_MEASUREMENT

if TYPE_CHECKING:
    from dgrec.session.session import Session

#: A notebook does not show the latency of longer sessions, which would take too long to read.
_MOST_SHOWN = 1_000_000


def session_card(session: Session) -> str:
    """Return an HTML table with the facts of a session. All texts are escaped."""
    metadata, totals = session.metadata, session.totals
    source, model = metadata.get("source", {}), metadata.get("model", {})
    facts = {
        "source": source.get("given"),
        "model": model.get("name"),
        "device": model.get("device"),
        "started": metadata.get("started_at"),
        "ended": _ending(metadata, sealed=session.sealed),
        "frames": f"{len(session):,}",
        "detections": _count(totals.get("detections")),
        "skipped, dropped": _counts(totals.get("skipped"), totals.get("dropped")),
        "latency, ms": _latency(session),
        "file": session.path.name,
        "damage": "; ".join(session.damage),
    }
    rows = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in facts.items()
        if value not in (None, "")
    )
    name = html.escape(str(metadata.get("name") or session.path.name))
    return f"<table><caption><b>{name}</b></caption><tbody>{rows}</tbody></table>"


def _ending(metadata: dict[str, Any], *, sealed: bool) -> str:
    ended_at, reason = metadata.get("ended_at"), metadata.get("end_reason")
    if reason in (None, "recovered"):
        return "cut off" if sealed else "not sealed yet"
    # Another program's file may not say when.
    return f"{ended_at} ({reason})" if ended_at else str(reason)


def _count(value: Any) -> str | None:
    return f"{value:,}" if isinstance(value, int) else None


def _counts(*values: Any) -> str | None:
    texts = [_count(value) for value in values]
    return None if None in texts else ", ".join(map(str, texts))


def _latency(session: Session) -> str | None:
    if "latency_ms" not in session.schema.names or not 0 < len(session) <= _MOST_SHOWN:
        return None
    batches = session.batches(["latency_ms"])
    found = [batch.column(0).to_numpy(zero_copy_only=False) for batch in batches]
    latency_ms = np.concatenate(found).astype(np.float64)
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
