"""Records with a real model, and compares every frame with what `predict_stream` yielded.

    python -m bench.identity
    python -m bench.identity --source traffic.mp4 --zoo-url ZOO --model-name NAME --max-frames 60

Compared are results (keys, their order, values, types, arrays bit by bit), timing, info, and the
overlay, pixel by pixel.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import dgrec
from dgrec.clock import Clock
from dgrec.footage import Pixels, find_footage
from dgrec.recorder.capture import Capture
from dgrec.recorder.model import ModelRequest, load_model
from dgrec.recorder.sources import FileSource, open_source, parse_source
from tests.recorder.doubles import new_stream


def is_same(left: Any, right: Any) -> bool:
    """Return whether two values are equal in type and content, bit by bit for arrays."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return (
            left.dtype == right.dtype
            and left.shape == right.shape
            and np.ascontiguousarray(left).tobytes() == np.ascontiguousarray(right).tobytes()
        )
    if isinstance(left, dict):
        return list(left) == list(right) and all(is_same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(is_same, left, right))
    return bool(left == right)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", default="sample")
    parser.add_argument("--zoo-url", default="")
    parser.add_argument("--model-name", default="")
    parser.add_argument("--max-frames", type=int)
    options = parser.parse_args()

    source = parse_source(options.source)
    reader = open_source(source)
    loaded = load_model(ModelRequest(model_name=options.model_name, zoo_url=options.zoo_url))
    clock = Clock()
    yielded: list[tuple[Any, Any, Any, int]] = []

    def keep(row: Any, result: Any) -> None:
        picture = np.ascontiguousarray(result.image_overlay).tobytes()
        yielded.append(
            (copy.deepcopy(result.results), dict(result.timing), result.info, hash(picture))
        )

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "session.parquet"
        metadata = {
            "source": source.describe(output.parent),
            "model": loaded.description,
            "overlay": loaded.overlay,
        }
        capture = Capture(FileSource(reader, clock), max_frames=options.max_frames)
        new_stream(loaded.model, capture, output, metadata, clock=clock, watchers=(keep,)).run()
        counts = {"results": 0, "timing": 0, "info": 0, "overlay": 0}
        detections = 0
        with dgrec.open(output) as session, Pixels(find_footage(session)) as pixels:
            assert len(session) == len(yielded)
            for recorded, (results, timing, info, picture) in zip(session, yielded, strict=True):
                counts["results"] += is_same(recorded.results, results)
                counts["timing"] += is_same(recorded.timing, timing)
                counts["info"] += is_same(recorded.info, info)
                shown = pixels.frame(recorded.row)
                assert shown is not None, f"no picture of frame {recorded.row}"
                overlay = recorded.overlay(shown)
                counts["overlay"] += hash(np.ascontiguousarray(overlay).tobytes()) == picture
                detections += len(results)
    frames = len(yielded)
    print(f"{frames} frames, {detections} detections; identical:")
    for name, count in counts.items():
        print(f"  {name:8} {count:6} of {frames}")
    return 0 if set(counts.values()) == {frames} else 1


if __name__ == "__main__":
    raise SystemExit(main())
