"""Alerts that rules would have given in recordings, as tables, Markdown or JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dgrec.alerts import Alert, Rule, alerts_of, unknown_labels
from dgrec.format import utc_text
from dgrec.replay.output import Destination, Section, json_text, write_report
from dgrec.session import Session
from dgrec.units import count_text

#: The most alerts that a table shows for each session.
_MOST_SHOWN = 100


@dataclass
class Tried:
    """The alerts of one session."""

    path: str
    began_us: int | None
    alerts: list[Alert]


def try_rules(session: Session, rules: Sequence[Rule], say: Callable[[str], None]) -> Tried:
    """Return the alerts that rules would have given in a session.

    Args:
        say: Gets a line for each rule that cannot be evaluated, or counts an unknown label.

    Raises:
        SessionError: Part of the session cannot be read.
    """
    began_us: int | None = None
    first = next(session.batches(["captured_at"], 0, 1), None)
    if first is not None and first.num_rows:
        began_us = first.column(0).cast("int64")[0].as_py()

    def failed(name: str, reason: str) -> None:
        say(f"{session.path}: alert {name}: {reason}")

    for name, reason in unknown_labels(rules, session.metadata):
        failed(name, reason)
    return Tried(str(session.path), began_us, alerts_of(session, list(rules), failed))


def write_alerts(
    tried: Sequence[Tried], rules: Sequence[Rule], form: str, destination: Destination
) -> None:
    """Write the alerts that rules gave, as ``table``, ``markdown`` or ``json``."""
    if form == "json":
        value = {
            "rules": {rule.name: rule.text for rule in rules},
            "sessions": [
                {"path": each.path, "alerts": list(map(_plain, each.alerts))} for each in tried
            ],
        }
        destination.write(json_text(value, indent=2) + "\n")
        return
    write_report(_sections(tried, rules), _notes(tried), form, destination)


def _plain(alert: Alert) -> dict[str, Any]:
    return {
        "name": alert.name,
        "since": utc_text(alert.since_us * 1000),
        "fired": utc_text(alert.fired_us * 1000),
        "ended": None if alert.ended_us is None else utc_text(alert.ended_us * 1000),
        "source_frame": alert.source_frame,
    }


def _sections(tried: Sequence[Tried], rules: Sequence[Rule]) -> Iterator[Section]:
    if len(tried) > 1:
        yield Section(
            "How often each rule fires",
            ("session", *(rule.name for rule in rules)),
            [
                (
                    each.path,
                    *(f"{sum(a.name == rule.name for a in each.alerts):,}" for rule in rules),
                )
                for each in tried
            ],
        )
    for each in tried:
        rows = [_row(alert, each.began_us) for alert in each.alerts[:_MOST_SHOWN]]
        if rows:
            names = ("alert", "at", "lasts", "frame")
            yield Section(each.path, names, rows, (False, True, True, True))


def _row(alert: Alert, began_us: int | None) -> tuple[str, ...]:
    at = "-" if began_us is None else f"{(alert.fired_us - began_us) / 1e6:,.1f} s"
    lasts = "to the end"
    if alert.ended_us is not None:
        lasts = f"{(alert.ended_us - alert.fired_us) / 1e6:,.1f} s"
    frame = count_text(alert.source_frame)
    return alert.name, at, lasts, frame


def _notes(tried: Sequence[Tried]) -> Iterator[str]:
    for each in tried:
        if not each.alerts:
            yield f"{each.path}: no rule fires."
        elif len(each.alerts) > _MOST_SHOWN:
            more = len(each.alerts) - _MOST_SHOWN
            yield f"{each.path}: {more:,} more (--format json has all)."
