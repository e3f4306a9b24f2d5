"""The numbers of recordings: tables, charts of text, and what limited the rate.

===================  ===========================================================
summary              one recording in numbers
questions            the SQL of `dgrec stats`, made of the library
pipeline             how busy each stage was
bottleneck           which of them limited the rate
findings             the same in sentences
publishing_findings  what was published, in sentences
oversubscription     more work at a time than the machine has cores
caveats              what to know before believing numbers
charts               a histogram and a time line in the terminal
follow               the numbers of a recording that is still going on
===================  ===========================================================
"""

from dgrec.replay.stats import questions
from dgrec.replay.stats.bottleneck import LOADS_QUERY, PIPELINES_QUERY, explain
from dgrec.replay.stats.caveats import caveats, moments
from dgrec.replay.stats.charts import can_show_blocks, histogram, time_line
from dgrec.replay.stats.findings import load_section, write_pipelines
from dgrec.replay.stats.follow import (
    SEALING_S,
    TEXT_LINES,
    Follower,
    journal_of,
    screen,
    sealed_or_not,
    status_line,
)
from dgrec.replay.stats.pipeline import Pipeline
from dgrec.replay.stats.publishing_findings import PUBLISHED_QUERY
from dgrec.replay.stats.questions import script
from dgrec.replay.stats.summary import (
    LABELS_QUERY,
    MEASURED,
    STAGES,
    measure,
    queries,
    stage_durations,
    stage_section,
    write_stats,
)

__all__ = [
    "Follower",
    "LABELS_QUERY",
    "LOADS_QUERY",
    "MEASURED",
    "PIPELINES_QUERY",
    "Pipeline",
    "PUBLISHED_QUERY",
    "SEALING_S",
    "STAGES",
    "TEXT_LINES",
    "can_show_blocks",
    "caveats",
    "explain",
    "histogram",
    "journal_of",
    "load_section",
    "measure",
    "moments",
    "queries",
    "questions",
    "screen",
    "script",
    "sealed_or_not",
    "stage_durations",
    "stage_section",
    "status_line",
    "time_line",
    "write_pipelines",
    "write_stats",
]
