"""A plot of what other thresholds give."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dgrec.errors import DgrecError
from dgrec.replay.report import Rows, Spec, base_spec, write_png

if TYPE_CHECKING:
    from dgrec.comparison import SettingOutcome, WhatIf

_TITLE = "With other thresholds"


def write_plot(answer: WhatIf, output: Path, *, overwrite: bool = False) -> None:
    """Write the counts, and the shares that the tables show, over the threshold, as a PNG.

    Raises:
        OutputError: The file exists, or cannot be written.
        DgrecError: Fewer than two thresholds were asked for, or there is no library to draw it.
    """
    if len({outcome.setting.threshold for outcome in answer.outcomes}) < 2:
        raise DgrecError(f"{output}: a plot takes two thresholds: --threshold 0.6:0.9:0.1")
    counts: Rows = []
    shares: Rows = []
    for outcome in answer.outcomes:
        where = {"threshold": outcome.setting.threshold, "setting": _name(outcome)}
        counts.append({**where, "what": "detections", "value": outcome.detections})
        if outcome.tracks is not None:
            counts.append({**where, "what": "tracks", "value": outcome.tracks})
        for what in ("flicker", "agreement", "precision", "recall", "f1"):
            value = getattr(outcome, what)
            if value is not None:
                shares.append({**where, "what": what, "value": value})
    spec: Spec = {
        **base_spec(0),
        "vconcat": [
            _lines(counts, "count", ",d"),
            _lines(shares, "share", ".0%"),
        ],
    }
    del spec["width"], spec["height"]
    write_png(spec, _TITLE, output, overwrite=overwrite)


def _name(outcome: SettingOutcome) -> str:
    """Return the settings of a line besides the threshold."""
    setting = outcome.setting
    nms = "" if setting.nms is None else f"NMS {setting.nms:g}"
    return " ".join(filter(None, (nms, setting.tracker or ""))) or "as recorded"


def _lines(rows: Rows, title: str, number: str) -> Spec:
    x = {"field": "threshold", "type": "quantitative", "scale": {"zero": False}}
    axis = {"title": title, "format": number}
    encoding: Spec = {
        "x": x,
        "y": {"field": "value", "type": "quantitative", "axis": axis},
        "color": {"field": "what", "type": "nominal", "title": None},
    }
    if len({row["setting"] for row in rows}) > 1:
        encoding["strokeDash"] = {"field": "setting", "type": "nominal", "title": None}
    return {
        "width": 620,
        "height": 220,
        "data": {"values": rows},
        "mark": {"type": "line", "point": True},
        "encoding": encoding,
    }
