"""PySDK's result objects, made from recorded results instead of a model's output."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from dgrec.format import RestoredFrame, result_values
from dgrec.overlay import fill_result

__all__ = ["Recorded", "recorded_class"]


@dataclass(slots=True)
class Recorded:
    """What a result is made from; PySDK passes it on as the conversion of coordinates."""

    frame: RestoredFrame

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        return x, y


@functools.cache
def recorded_class(result_class: Any) -> Any:
    """Return a subclass whose constructor takes recorded results.

    PySDK's own constructors turn the model's output into results, which recorded ones are already.
    Analyzers subclass it, and run at the end of its constructor, as they do live.
    """
    own: Any = result_values.pysdk_class(result_class)

    def construct(self: Any, **arguments: Any) -> None:
        recorded: Recorded = arguments.pop("conversion")
        results = arguments.pop("inference_results")
        fill_result(self, own, recorded.frame, results, **arguments)

    name = result_class.__name__
    return type(name, (result_class,), {"__init__": construct, "_dgrec_class": result_class})
