"""Accuracy against ground truth, as tables, Markdown or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dgrec.comparison import Accuracy
from dgrec.replay.output import Destination, Section, json_text, write_report

_HEAD = ("objects", "right", "wrong", "precision", "recall", "AP50", "AP50:95")


def write_accuracy(found: Sequence[Accuracy], form: str, output: Destination) -> None:
    """Write the accuracy of sessions; ``form`` is table, markdown or json."""
    if form == "json":
        output.write(json_text({"sessions": [each.to_dict() for each in found]}, indent=2) + "\n")
        return
    write_report(_sections(found), _notes(found), form, output)


def _sections(found: Sequence[Accuracy]) -> Iterator[Section]:
    yield Section(
        "Against the ground truth",
        ("session", "frames", *_HEAD),
        [(each.path, f"{each.frames:,}", *_numbers(each)) for each in found],
        (False, *[True] * (1 + len(_HEAD))),
    )
    for each in found:
        if len(each.labels) > 1:
            title = "By label" if len(found) == 1 else f"By label: {each.path}"
            rows = [(label.label, *_numbers(label)) for label in each.labels]
            yield Section(title, ("label", *_HEAD), rows, (False, *[True] * len(_HEAD)))


def _numbers(found: object) -> tuple[str, ...]:
    counts = (f"{getattr(found, name):,}" for name in ("objects", "right", "wrong"))
    shares = (getattr(found, name) for name in ("precision", "recall", "ap50", "ap"))
    return (*counts, *("-" if share is None else f"{share:.4f}" for share in shares))


def _notes(found: Sequence[Accuracy]) -> Iterator[str]:
    for each in found:
        yield from each.notes
    yield (
        "Right: a detection and an object of its label with an IoU of at least 0.5, matched as "
        "COCO does, over all detections as they were recorded. AP50 and AP50:95 are COCO's, of "
        "boxes of all areas, averaged over the labels."
    )
