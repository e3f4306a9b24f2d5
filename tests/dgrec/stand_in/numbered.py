"""Recordings of pictures that show their number, and a model that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import dgrec
from tests import footage
from tests.recorder.doubles import PysdkDouble

__all__ = ["NumberReader", "number_in", "record", "wrong"]

_BLOCK, _BITS = 8, 8


def number_in(image: np.ndarray[Any, Any]) -> int:
    """Return the number that a picture shows (`tests.footage.picture`), however it was encoded."""
    means = [image[1:7, b * _BLOCK + 1 : (b + 1) * _BLOCK - 1].mean() for b in range(_BITS)]
    return sum(1 << bit for bit, mean in enumerate(means) if mean > 127)


class NumberReader(PysdkDouble):
    """A model whose only detection has the number of the picture for its score."""

    def __init__(self, name: str = "number-reader") -> None:
        self._shown: list[int] = []
        self._model_name = name
        super().__init__("Detection", lambda index: [self.detection(self._shown[index])])

    @staticmethod
    def detection(number: int) -> dict[str, Any]:
        box = [1.0 + number, 2.0, 30.0 + number, 40.0]
        return {"bbox": box, "category_id": 0, "label": "person", "score": number / 256}

    def predict_batch(self, frames: Iterator[Any]) -> Iterator[Any]:
        self._shown.clear()

        def looked_at() -> Iterator[Any]:
            for frame in frames:
                self._shown.append(number_in(frame))
                yield frame

        yield from super().predict_batch(looked_at())


def record(source: Path | str, output: Path, **choices: Any) -> Path:
    """Record a numbered clip with `dgrec.predict_stream`; return the session."""
    shown = [
        number_in(result.image)
        for result in dgrec.predict_stream(NumberReader(), str(source), output=output, **choices)
    ]
    assert shown
    return output


def clip(path: Path, frames: int = footage.FRAMES, **how: Any) -> Path:
    """Write a clip whose pictures show 0, 1, 2..."""
    return footage.encode(path, footage.Encoding(**how), frames)


def wrong(results: Any) -> int:
    """Return how many results are not those of the number that their picture shows."""
    return sum(
        [item["score"] for item in result.results] != [number_in(result.image) / 256]
        for result in results
    )
