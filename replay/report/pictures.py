"""The pictures of a report: the slowest frames, with what was found in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from dgrec.footage import Pixels
from dgrec.replay.report.vega import Rows
from dgrec.session import Session

#: Frames in the strip of the slowest, and how wide each is in the file, in pixels.
_PICTURES = 12
_PICTURE_WIDTH = 480
_JPEG_QUALITY = 80

#: Of frames less than this many seconds of the footage apart, the strip shows the slowest.
_APART_S = 0.5
#: The strip is chosen from this many of the slowest frames.
_CANDIDATES = 5000

#: The frames of the strip. Each is the slowest around it: otherwise all would be neighbours.
SLOWEST = f"""
SELECT frame, captured_at, latency_ms, read_ms, preprocess_ms, inference_ms, postprocess_ms,
       dropped_before
FROM (
    SELECT *, arg_max(frame, latency_ms) OVER (
        ORDER BY coalesce(media_time_s, epoch_us(captured_at) / 1e6)
        RANGE BETWEEN {_APART_S} PRECEDING AND {_APART_S} FOLLOWING) AS slowest
    FROM (FROM frames ORDER BY latency_ms DESC, frame LIMIT {_CANDIDATES})
) WHERE frame = slowest OR latency_ms IS NULL
ORDER BY latency_ms DESC, frame
LIMIT {_PICTURES}"""


@dataclass(frozen=True)
class Picture:
    frame: int
    jpeg: bytes
    width: int
    height: int
    caption: str


def pictures(session: Session, rows: Rows, pixels: Pixels) -> list[Picture]:
    """Return the frames of ``rows`` that have pixels, with their overlays."""
    with ExitStack() as closing:
        return list(_pictures(session, rows, pixels, closing))


def _pictures(
    session: Session, rows: Rows, pixels: Pixels, closing: ExitStack
) -> Iterator[Picture]:
    import cv2

    from dgrec.replay.rendering import Scene

    painter = Scene().painter(session, closing)
    positions = _positions(session, [int(row["frame"]) for row in rows])
    for row in rows:
        result = session.result(positions[int(row["frame"])])
        image = pixels.frame(result.row)
        if image is None:
            continue
        picture = painter.draw(result, image)
        height, width = picture.shape[:2]
        if width > _PICTURE_WIDTH:
            height, width = max(1, round(height * _PICTURE_WIDTH / width)), _PICTURE_WIDTH
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if ok:
            yield Picture(
                int(row["frame"]),
                data.tobytes(),
                width,
                height,
                _caption(row),
            )


def _positions(session: Session, frames: list[int]) -> dict[int, int]:
    """Return the positions of frames: numbers also count rows that were lost or are elsewhere."""
    found: dict[int, int] = {}
    start = 0
    for batch in session.batches(["frame"]):
        numbers = batch.column("frame").to_numpy()
        for at in np.flatnonzero(np.isin(numbers, frames)).tolist():
            found.setdefault(int(numbers[at]), start + at)
        start += batch.num_rows
    return found


def _caption(row: Mapping[str, Any]) -> str:
    stages = [
        f"{name} {row[f'{name}_ms']:,.1f}"
        for name in ("preprocess", "inference", "postprocess")
        if row[f"{name}_ms"] is not None
    ]
    lost = f"; {row['dropped_before']:,} frames lost before it" if row["dropped_before"] else ""
    inside = f" ({', '.join(stages)})" if stages else ""
    latency = "-" if row["latency_ms"] is None else f"{row['latency_ms']:,.1f} ms"
    return f"frame {row['frame']:,}: {latency}{inside}{lost}"
