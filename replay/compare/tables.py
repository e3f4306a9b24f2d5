"""A comparison as tables, Markdown or JSON."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from dgrec.comparison import (
    GOOD_SESSIONS,
    KINDS,
    MARGIN,
    Agreement,
    ComparedSession,
    Comparison,
    Limit,
    MetricRow,
    Outcome,
    Value,
    Verdict,
)
from dgrec.replay.output import Destination, Section, json_text, write_report
from dgrec.units import and_more, count_text, counted, digits

#: Says where a frame is shown, by its position in BASE.
See = Callable[[int], str]
KIND_NAMES = {
    "same": "same",
    "label_flip": "label flip",
    "box_shift": "box shift",
    "both": "both",
    "duplicate_base": "duplicate in BASE",
    "duplicate_new": "duplicate in NEW",
    "only_base": "only in BASE",
    "only_new": "only in NEW",
}
#: Why there are no pairs of frames.
NOT_COMPARED = "Detections are not compared: the sessions are not known to be of the same file."
#: The most pairs of labels that a table shows.
_FLIPS = 10
#: A fact of the metadata is cut off here (a table of labels may be long).
_LONGEST_FACT = 60


def write_comparison(
    comparison: Comparison,
    form: str,
    destination: Destination,
    checked: Sequence[tuple[Limit, Outcome]] = (),
    see: See | None = None,
) -> None:
    """Write a comparison as ``table``, ``markdown`` or ``json``.

    Args:
        checked: The conditions of ``--fail-on``, and whether each holds.
        see: Says where a frame is shown, by its position in BASE; None: a command says it.
    """
    conclusion = [*conclude(comparison), *_limits(checked)]
    if form != "json":
        write_report(
            comparison_sections(comparison, see),
            comparison_notes(comparison),
            form,
            destination,
            conclusion=conclusion,
        )
        return
    value = {"conclusion": conclusion, **comparison.to_dict()}
    if comparison.agreement is not None:
        for frame in value["agreement"]["changed"]:
            position = frame["base_position"]
            frame["command"] = _side_by_side(comparison, position)
            if see is not None:
                frame["link"] = see(position)
    value["fail_on"] = [{"condition": limit.text, **asdict(outcome)} for limit, outcome in checked]
    destination.write(json_text(value, indent=2) + "\n")


def comparison_sections(comparison: Comparison, see: See | None = None) -> Iterator[Section]:
    """Yield the tables of a comparison."""
    if comparison.differences:
        yield Section(
            "What differs",
            ("", "BASE", "NEW"),
            [(d.key, _facts(d.base), _facts(d.new)) for d in comparison.differences],
            (False, False, False),
        )
    else:
        same = "nothing: model, device, source, versions and options are the same"
        yield Section("What differs", (), [(same, "")])
    yield Section(
        "Recordings",
        (
            "",
            "session",
            "frames",
            "ended",
            "warm-up",
            "compared",
            "effective",
            "dropped",
            "skipped",
        ),
        [
            _recording_row(side, recording)
            for side, recordings in (("BASE", comparison.base), ("NEW", comparison.new))
            for recording in recordings
        ],
        (False, False, True, False, True, True, True, True, True),
        Section(
            "Recordings",
            ("", "session", "frames", "compared", "dropped"),
            [
                (
                    side,
                    recording.path,
                    f"{recording.frames:,}",
                    f"{recording.compared:,}",
                    count_text(recording.lost),
                )
                for side, recordings in (("BASE", comparison.base), ("NEW", comparison.new))
                for recording in recordings
            ],
            (False, False, True, True, True),
        ),
    )
    yield Section(
        "Speed",
        ("metric", "BASE", "NEW", "change", "verdict", "why"),
        [_row(row) for row in comparison.rows],
        (False, True, True, True, False, False),
        Section(
            "Speed (a wider terminal shows intervals and reasons)",
            ("metric", "BASE", "NEW", "change", "verdict"),
            [_narrow_row(row) for row in comparison.rows],
            (False, True, True, True, False),
        ),
    )
    if comparison.agreement is not None:
        yield from _agreement_sections(comparison, comparison.agreement, see)


def _facts(values: Sequence[Any]) -> str:
    return " | ".join("-" if value is None else _fact(value) for value in values)


def _fact(value: Any) -> str:
    text = value if isinstance(value, str) else json_text(value)
    return text if len(text) <= _LONGEST_FACT else text[:_LONGEST_FACT] + "…"


def _recording_row(side: str, recording: ComparedSession) -> tuple[str, ...]:
    places = ", ".join(f"{place} {n:,}" for place, n in recording.dropped.items() if n)
    more = recording.dropped_at_start
    start = f"; {more:,} more while the model started" if more else ""
    ended = recording.end_reason or "never (killed, or still running)"
    return (
        side,
        recording.path,
        f"{recording.frames:,}",
        f"{ended}, damaged" if recording.damage else ended,
        _warm_up(recording),
        f"{recording.compared:,}",
        "-" if recording.effective is None else f"{recording.effective:,.0f}",
        (f"{count_text(recording.lost)} ({places})" if places else count_text(recording.lost))
        + start,
        count_text(recording.skipped),
    )


def _warm_up(recording: ComparedSession) -> str:
    if recording.has_settled is None:
        return "too short"
    return f"{recording.warm_up:,}" if recording.has_settled else "not settled"


def _row(row: MetricRow) -> tuple[str, ...]:
    change = _percent(row.change)
    if row.change_low is not None or row.change_high is not None:
        low = _percent(row.change_low, "-100%")
        change += f" ({low} to {_percent(row.change_high, 'any')})"
    return (
        row.metric,
        _value(row.base),
        _value(row.new),
        change,
        row.verdict,
        row.reason or "",
    )


def _narrow_row(row: MetricRow) -> tuple[str, ...]:
    base, new = ("-" if v.value is None else digits(v.value) for v in (row.base, row.new))
    return row.metric, base, new, _percent(row.change), row.verdict


def _value(value: Value) -> str:
    if value.value is None:
        return "-"
    text = digits(value.value)
    if value.low is None or value.high is None:
        return text
    return f"{text} ({digits(value.low)} to {digits(value.high)})"


def _percent(value: float | None, without: str = "-") -> str:
    return without if value is None else f"{value:+.1%}"


# --- agreement ---------------------------------------------------------------------------------


def _agreement_sections(
    comparison: Comparison, agreement: Agreement, see: See | None
) -> Iterator[Section]:
    yield Section("Agreement", (), list(_agreement_rows(agreement)))
    if agreement.labels:
        kinds = [kind for kind in KINDS if agreement.counts[kind] or kind == "same"]
        names = [KIND_NAMES[kind] for kind in kinds]
        yield Section(
            "Agreement by label",
            ("label", "in BASE", "in NEW", *names, "precision", "recall", "F1"),
            [
                (
                    "-" if label.label is None else label.label,
                    f"{label.base:,}",
                    f"{label.new:,}",
                    *(f"{label.counts[kind]:,}" for kind in kinds),
                    _share(label.precision),
                    _share(label.recall),
                    _share(label.f1),
                )
                for label in agreement.labels
            ],
        )
    if agreement.flips:
        yield Section(
            "Labels flipped",
            ("in BASE", "in NEW", "pairs"),
            [(_label(a), _label(b), f"{count:,}") for a, b, count in agreement.flips[:_FLIPS]],
            (False, False, True),
        )
    if agreement.changed:
        yield Section(
            "Frames that changed most",
            ("frame", "changes", "F1", "what", "see it"),
            [
                (
                    f"{frame.source_frame:,}",
                    f"{frame.changes:,}",
                    _share(frame.f1),
                    ", ".join(f"{KIND_NAMES[kind]} {count}" for kind, count in frame.kinds),
                    see(frame.base_position)
                    if see
                    else _side_by_side(comparison, frame.base_position),
                )
                for frame in agreement.changed
            ],
            (True, True, True, False, False),
        )


def _agreement_rows(agreement: Agreement) -> Iterator[tuple[str, str]]:
    yield "frames compared", f"{agreement.frames:,}, of which {agreement.same_frames:,} the same"
    if agreement.only_base_frames or agreement.only_new_frames:
        yield (
            "frames on one side",
            f"{agreement.only_base_frames:,} only in BASE, {agreement.only_new_frames:,} only in "
            "NEW: not compared",
        )
    yield "detections", f"{agreement.base:,} in BASE, {agreement.new:,} in NEW"
    yield "agreement (F1)", _share(agreement.f1)
    yield "precision, recall", f"{_share(agreement.precision)}, {_share(agreement.recall)}"
    yield "mean IoU of pairs", _share(agreement.mean_iou)
    if agreement.score_shift is not None and agreement.score_distance is not None:
        yield (
            "score shift",
            f"{agreement.score_shift:+.4f} on average, {agreement.score_distance:.4f} either way",
        )
    for kind in KINDS:
        if agreement.counts[kind] or kind == "same":
            yield KIND_NAMES[kind], f"{agreement.counts[kind]:,}"


def _share(value: float | None) -> str:
    if value is None:
        return "-"
    # Only complete agreement may look like it.
    return "0.9999" if 0.99995 <= value < 1 else f"{value:.4f}"


def _label(label: str | None) -> str:
    return "-" if label is None else label


def _side_by_side(comparison: Comparison, position: int) -> str:
    base, new = comparison.base[0].path, comparison.new[0].path
    return (
        f"dgrec replay {shlex.quote(base)} --side-by-side {shlex.quote(new)} "
        f"--start {position} --end {position + 1}"
    )


# --- notes -------------------------------------------------------------------------------------


def comparison_notes(comparison: Comparison) -> Iterator[str]:
    """Yield what else there is to know, in sentences."""
    if comparison.is_same_recording:
        yield "BASE and NEW are the same recording."
    elif comparison.unit == "frame":
        yield (
            "This is a difference between these two recordings. How much runs of the same thing "
            f"differ is not in it: --base A1 A2 ... --new B1 B2 ... ({GOOD_SESSIONS} a side or "
            "more) shows it."
        )
    else:
        yield (
            "Sessions are the unit: values are means over sessions (geometric, where none is 0), "
            "with the smallest and largest of them in parentheses."
        )
    yield from _pair_notes(comparison)
    yield (
        "Effective: how many independent frames would say as much; a frame's latency is like that "
        "of the one before."
    )
    recordings = (*comparison.base, *comparison.new)
    if any(recording.has_settled is False for recording in recordings):
        yield (
            "Not settled: nowhere in the first half were three windows of a second within 10%. "
            "Nothing is left out there, and what is compared may be warm-up."
        )
    for recording in recordings:
        if recording.damage:
            yield f"{recording.path} is damaged: {and_more(recording.damage)}."
    yield f"Intervals are of 95%. SAME: the whole interval of the change is within {MARGIN:.0%}."
    agreement = comparison.agreement
    if agreement is None:
        yield NOT_COMPARED
    else:
        if comparison.unit == "session":
            base, new = comparison.base[0].path, comparison.new[0].path
            yield f"Detections are compared of the first session on each side: {base} and {new}."
        yield from _agreement_notes(agreement)


# --- conclusion --------------------------------------------------------------------------------

#: The most metrics that the conclusion names.
_NAMED = 3


def conclude(comparison: Comparison) -> Iterator[str]:
    """Yield the conclusion of a comparison: speed, detections, and the number of each verdict."""
    yield _speed(comparison)
    yield from _other_work(comparison)
    agreement = comparison.agreement
    if agreement is not None:
        yield _detections(agreement)
    order = (Verdict.SLOWER, Verdict.FASTER, Verdict.SAME, Verdict.UNCLEAR)
    counts = Counter(row.verdict for row in comparison.rows)
    verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in order if counts[verdict])
    if agreement is not None:
        is_known = agreement.f1 is not None
        verdicts += f"; agreement {_share(agreement.f1) if is_known else 'unknown'}"
    yield f"In short: {verdicts}."


def _speed(comparison: Comparison) -> str:
    of = {
        verdict: [row for row in comparison.rows if row.verdict == verdict] for verdict in Verdict
    }
    slower, faster = of[Verdict.SLOWER], of[Verdict.FASTER]
    if slower and faster:
        return f"NEW is slower in {_named(slower)}, and faster in {_named(faster)}."
    if slower:
        return f"NEW is slower: {_named(slower)}."
    if faster:
        return f"NEW is faster: {_named(faster)}."
    if of[Verdict.SAME] and not of[Verdict.UNCLEAR]:
        return "NEW is as fast as BASE."
    if of[Verdict.SAME]:
        return "NEW is as fast as BASE, as far as that is clear."
    return "Whether NEW is slower or faster is not clear."


def _other_work(comparison: Comparison) -> Iterator[str]:
    """Yield sentences on recordings made beside other work, a reason for any difference."""
    if comparison.is_same_recording:
        return
    for side, recordings in (("BASE", comparison.base), ("NEW", comparison.new)):
        disturbed = [r for r in recordings if r.machine is not None and r.machine.other_work]
        if len(recordings) == len(disturbed) == 1 and (machine := disturbed[0].machine):
            yield f"While {side} was recorded, the machine was {machine.other_work}."
        elif disturbed:
            yield (
                f"While {len(disturbed)} of {counted(len(recordings), 'session')} of {side} were "
                "recorded, the machine was busy with other work (dgrec stats --why)."
            )


def _named(rows: Sequence[MetricRow]) -> str:
    """Return the first metrics with their changes: the most important ones come first."""
    order = ("throughput_fps", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms")
    first = sorted(rows, key=lambda row: row.metric not in order)
    named = ", ".join(f"{row.metric} {_percent(row.change)}" for row in first[:_NAMED])
    more = len(rows) - _NAMED
    return f"{named} and {more} more" if more > 0 else named


def _detections(agreement: Agreement) -> str:
    if agreement.f1 is None:
        return "Whether both find the same is unknown."
    if agreement.same_frames == agreement.frames:
        return "Both find the same in every frame."
    return (
        f"They differ in {agreement.frames - agreement.same_frames:,} of "
        f"{counted(agreement.frames, 'frame')} by what they find: agreement {_share(agreement.f1)}."
    )


def _limits(checked: Sequence[tuple[Limit, Outcome]]) -> Iterator[str]:
    for limit, outcome in checked:
        state = "FAILED" if outcome.holds else "UNKNOWN" if outcome.problem else "passed"
        yield f"{state}: --fail-on {shlex.quote(limit.text)}"
        for doubt in outcome.doubtful:
            yield f"  not failed for {doubt}"


def _pair_notes(comparison: Comparison) -> Iterator[str]:
    if comparison.unit != "frame" or not comparison.has_same_footage:
        return
    if not all(comparison.frames):
        return
    if not comparison.pairs:
        yield "No frame is in both: what is compared are other parts of the same footage."
        return
    yield f"Both saw the same frames: {counted(comparison.pairs, 'pair', 'is', 'are')} compared."
    if any(comparison.unpaired):
        base, new = (counted(count, "frame", "is", "are") for count in comparison.unpaired)
        yield (
            f"Between the first pair and the last, {base} only in BASE and {new} only in NEW: they "
            "count for throughput and stalls, their durations are not compared."
        )


def _agreement_notes(agreement: Agreement) -> Iterator[str]:
    yield (
        "Agreement takes BASE for the truth: precision is the share of NEW's detections that are "
        "the same in BASE, recall that of BASE's that are the same in NEW. Only bounding boxes, "
        "labels and scores are compared."
    )
    yield (
        "Same: a pair of one label with an IoU of at least 0.5; such pairs are made first. Of what "
        "is left, the pairs with the most IoU are a label flip (at least 0.5, another label), a "
        "box shift (0.1 to 0.5, same label) or both (0.1 to 0.5, another label). Without a pair, a "
        "detection is a duplicate where it has an IoU of 0.5 with one that has a pair, whatever "
        "its label, and otherwise only on its side."
    )
    if agreement.shaped:
        yield (
            f"{counted(agreement.shaped, 'detection', 'has', 'have')} a mask or key points: these "
            "may differ and are not compared."
        )
    if agreement.rotated:
        yield (
            f"{agreement.rotated:,} boxes are rotated: their angle is not compared, and the IoU is "
            "that of the boxes without it."
        )
    if agreement.classified:
        yield (
            f"{counted(agreement.classified, 'frame', 'has', 'have')} labels without boxes: the "
            "one with the best score is compared."
        )
    if agreement.not_compared:
        yield (
            f"{counted(agreement.not_compared, 'result', 'has', 'have')} neither box nor label, or "
            "too many are in one frame: nothing of them is compared, and no frame that has one "
            "counts as the same."
        )
