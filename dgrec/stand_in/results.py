"""PySDK's result objects, made from recorded results instead of a model's output."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from dgrec.analyzers import Drawing, recorded_time
from dgrec.format import RestoredFrame, result_values
from dgrec.overlay import fill_result, plain_class


@dataclass(slots=True)
class Recorded:
    """The frame that a result is made from; PySDK passes it on as the conversion of coordinates."""

    frame: RestoredFrame

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        return x, y


@functools.cache
def _recorded_class(own: Any) -> Any:
    """Return a subclass of a class of PySDK's, whose constructor takes recorded results.

    PySDK's own constructors turn the model's output into results, which recorded ones are already.
    """

    def construct(self: Any, **arguments: Any) -> None:
        recorded: Recorded = arguments.pop("conversion")
        results = arguments.pop("inference_results")
        fill_result(self, own, recorded.frame, results, **arguments)

    return type(own.__name__, (own,), {"__init__": construct})


def as_recorded(chosen: Any) -> Any:
    """Return a class whose constructors all run, but with PySDK's taking recorded results.

    Args:
        chosen: PySDK's, a program's own, or one with analyzers: these run in its constructor.
    """
    own: Any = result_values.pysdk_class(chosen)
    base = _recorded_class(own)
    # Python looks for the next constructor in the order of the bases: `base` is before `own`.
    return base if chosen is own else type(chosen.__name__, (chosen, base), {})


def timed_class(chosen: Any) -> Any:
    """Return a class with analyzers, which get the time of the frame also when they draw."""

    def draw(result: Any) -> Any:
        with recorded_time(result._completed_ns):
            return chosen.image_overlay.fget(result)

    return type(chosen.__name__, (chosen,), {"image_overlay": property(draw)})


def drawn_class(chosen: Any, results: Any, drawing: Drawing) -> Any:
    """Return the class that a finished result has: the one that it would have live.

    Args:
        drawing: What recorded analyzers draw on the overlay, before those that are attached.
    """
    plain = plain_class(chosen, results)
    return _with_drawing(plain, drawing) if drawing.analyzers else plain


@functools.lru_cache(8)
def _with_drawing(result_class: Any, drawing: Drawing) -> type:
    def draw(result: Any) -> Any:
        notices = vars(result).get("_dgrec_notices", {})
        return drawing.draw(result, below.image_overlay.fget(result), notices)

    has_analyzers = hasattr(result_class, "_analyzers")
    below: Any = result_values.pysdk_class(result_class) if has_analyzers else result_class
    drawn = type(below.__name__, (below,), {"image_overlay": property(draw)})
    # As in `as_recorded`: those attached draw on what the class below them has drawn.
    return type(result_class.__name__, (result_class, drawn), {}) if has_analyzers else drawn
