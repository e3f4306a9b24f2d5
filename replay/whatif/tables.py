"""Thresholds of a session as tables, Markdown or JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dgrec.replay.output import Destination, Section, json_text, write_report
from dgrec.units import digits

if TYPE_CHECKING:
    from dgrec.comparison import SettingOutcome, WhatIf

#: Labels with a column of their own.
_LABELS = 5


def write_whatif(answer: WhatIf, form: str, destination: Destination) -> None:
    """Write what each setting gives, as ``table``, ``markdown`` or ``json``."""
    if form == "json":
        value = {
            "recorded": answer.recorded,
            "settings": [_plain(outcome) for outcome in answer.outcomes],
            "best": None if answer.best is None else _setting(answer.best),
            "notes": answer.notes,
        }
        destination.write(json_text(value, indent=2) + "\n")
        return
    write_report(_sections(answer), _notes(answer), form, destination)


def _setting(outcome: SettingOutcome) -> dict[str, Any]:
    setting = outcome.setting
    return {
        "output_confidence_threshold": setting.threshold,
        "output_nms_threshold": setting.nms,
        "tracker": setting.tracker,
    }


def _plain(outcome: SettingOutcome) -> dict[str, Any]:
    return {
        **_setting(outcome),
        "frames": outcome.frames,
        "detections": outcome.detections,
        "detections_per_frame": outcome.per_frame,
        "frames_with_detections": outcome.frames_with_detections,
        "labels": {str(label): count for label, count in outcome.labels.most_common()},
        "single_detections": outcome.single,
        "gaps": outcome.gaps,
        "flicker": outcome.flicker,
        "agreement": outcome.agreement,
        "tracks": outcome.tracks,
        "frames_per_track": outcome.track_length,
        "true_positives": outcome.true_positives,
        "false_positives": None if outcome.true_positives is None else outcome.false_positives,
        "false_negatives": None if outcome.true_positives is None else outcome.false_negatives,
        "precision": outcome.precision,
        "recall": outcome.recall,
        "f1": outcome.f1,
    }


_Cell = Callable[["SettingOutcome"], str]


def _given(answer: WhatIf) -> list[tuple[str, _Cell]]:
    """Return the columns of the settings that differ; the threshold, if none does."""
    columns: list[tuple[str, _Cell]] = [
        ("threshold", lambda o: _number(o.setting.threshold)),
        ("NMS", lambda o: _number(o.setting.nms)),
        ("tracker", lambda o: o.setting.tracker or "by itself"),
    ]
    chosen = [outcome.setting for outcome in answer.outcomes]
    is_given = (
        any(setting.threshold is not None for setting in chosen),
        any(setting.nms is not None for setting in chosen),
        len({setting.tracker for setting in chosen}) > 1,
    )
    given = [column for column, shown in zip(columns, is_given, strict=True) if shown]
    return given or columns[:1]


def _sections(answer: WhatIf) -> Iterator[Section]:
    given = _given(answer)
    columns: list[tuple[str, _Cell]] = [
        *given,
        ("detections", lambda o: f"{o.detections:,}"),
        ("a frame", lambda o: _digits(o.per_frame)),
        ("flicker", lambda o: _percent(o.flicker)),
        ("agreement", lambda o: _percent(o.agreement)),
    ]
    if any(outcome.tracks is not None for outcome in answer.outcomes):
        columns += [
            ("tracks", lambda o: f"{o.tracks:,}"),
            ("frames each", lambda o: _digits(o.track_length)),
        ]
    if answer.best is not None:
        columns += [
            ("precision", lambda o: _percent(o.precision)),
            ("recall", lambda o: _percent(o.recall)),
            ("F1", lambda o: _percent(o.f1) + (" best" if o is answer.best else "")),
        ]
    yield _section("With other thresholds", columns, answer, len(given))
    labels: Counter[str | None] = Counter()
    for outcome in answer.outcomes:
        labels.update(outcome.labels)
    most = [label for label, _ in labels.most_common(_LABELS)]
    if len(labels) > 1:
        of_labels: list[tuple[str, _Cell]] = [
            (label or "-", lambda o, label=label: f"{o.labels[label]:,}")  # type: ignore[misc]
            for label in most
        ]
        title = "Detections by label"
        if len(labels) > len(most):
            title += f" (the {len(most)} with the most of {len(labels)})"
        yield _section(title, [*given, *of_labels], answer, len(given))


def _section(
    title: str, columns: list[tuple[str, _Cell]], answer: WhatIf, settings: int
) -> Section:
    names = [name for name, _ in columns]
    rows = [[cell(outcome) for _, cell in columns] for outcome in answer.outcomes]
    return Section(title, names, rows, [name != "tracker" for name in names])


def _notes(answer: WhatIf) -> Iterator[str]:
    if recorded := answer.recorded.get("output_confidence_threshold"):
        yield f"Recorded with a threshold of {recorded:g}: nothing below it can be counted."
    yield from answer.notes


def _number(value: float | None) -> str:
    return "as recorded" if value is None else f"{value:g}"


def _digits(value: float | None) -> str:
    return "-" if value is None else digits(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"
