"""Analyzers of degirum_tools: which ran, how they draw, and how they are named on a command line.

=============  =================================================================
settings       analyzers of a model, and their entries in the metadata
drawing        draws what analyzers added, from recorded values
recorded_time  gives analyzers the time of a frame where they ask for now
request        ``--tracker`` and ``--analyzers``: analyzers that a command is given
texts          makes texts that can be drawn
=============  =================================================================
"""

from dgrec.analyzers.drawing import Drawing, Notice, drawing_of, with_degirum_counts
from dgrec.analyzers.recorded_time import recorded_time
from dgrec.analyzers.request import AnalyzerRequest, failure_of
from dgrec.analyzers.settings import (
    added_by,
    analyzers_of_model,
    analyzers_of_result,
    as_list,
    attach,
    class_of,
    describe,
    describe_attached,
    detach,
    remove_added,
)
from dgrec.analyzers.texts import drawable, drawable_result

__all__ = [
    "AnalyzerRequest",
    "Drawing",
    "Notice",
    "added_by",
    "analyzers_of_model",
    "analyzers_of_result",
    "as_list",
    "attach",
    "class_of",
    "describe",
    "describe_attached",
    "detach",
    "drawable",
    "drawable_result",
    "drawing_of",
    "failure_of",
    "recorded_time",
    "remove_added",
    "with_degirum_counts",
]
