"""Metadata of a recording in parts that are sums over its parts."""

from __future__ import annotations

from typing import Any

from dgrec.format import LOSSES


def added_totals(parts: list[Any]) -> dict[str, Any]:
    """Add up the ``totals`` of all parts; nothing while one of them is still being recorded."""
    if None in parts:
        return {}
    added = {
        key: sum(totals[key] for totals in parts)
        for key in parts[0]
        if all(isinstance(totals.get(key), int) for totals in parts)
    }
    for key in ("signals", "signals_left_out"):  # absent where there are none
        if count := sum(totals.get(key) or 0 for totals in parts):
            added[key] = count
    # Values for the end of the whole recording, or for what came after its last row.
    for key in ("clock_drift_ms", *(f"{name}_after" for name in LOSSES)):
        added.pop(key, None)
        if key in parts[-1]:
            added[key] = parts[-1][key]
    return added


def added_machine(parts: list[Any]) -> dict[str, Any]:
    """Add up the ``machine`` of all parts; nothing while one of them is still being recorded."""
    if None in parts:
        return {}
    merged = dict(parts[-1])
    for key in ("seconds", "process_cpu_s", "children_cpu_s"):
        values = [machine.get(key) for machine in parts]
        merged[key] = None if None in values else round(sum(values), 3)
    busy = [
        (machine["seconds"], machine["system_busy"])
        for machine in parts
        if machine.get("seconds") and machine.get("system_busy") is not None
    ]
    seconds = sum(seconds for seconds, _ in busy)
    busy_s = sum(seconds * share for seconds, share in busy)
    merged["system_busy"] = round(busy_s / seconds, 3) if seconds else None
    return merged
