"""The summary of a session: times of stages, frames a second, losses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dgrec.format import LOSSES, STAGE_KEYS
from dgrec.rates import exact_rate_text
from dgrec.replay.output import Destination, Section, csv_line, json_text, write_report
from dgrec.replay.query import SqlReader
from dgrec.replay.stats.caveats import caveats, moments
from dgrec.session import Session
from dgrec.units import count_text

#: Columns that hold durations, in the order of a frame's path; the sum of the stages is not the
#: latency, which includes waiting between them.
STAGES = (
    "read_ms",
    *STAGE_KEYS,
    "latency_ms",
    "published_ms",
    "recorder_ms",
)
#: Places at which a frame can be lost.
_DROP_PLACES = ("camera", "queue", "writer")
#: The columns that are measured: a file that another tool has rewritten may lack some.
MEASURED = (
    "captured_at",
    "completed_at",
    *(name for name in STAGES if name != "published_ms"),  # newer than most sessions
    *LOSSES.values(),
    "detections",
)
#: Exact quantiles hold a column in memory. Up to here, all seven take 250 MB; longer sessions are
#: estimated with a t-digest, whose size does not grow.
EXACT_FRAMES = 4_000_000
#: A first frame of this many times the median is pointed out: the runtime was warming up.
_WARM_UP_RATIO = 3.0

#: Labels, and letters of each, that a table shows: people read the most frequent ones.
_MOST_LABELS = 50
_LABEL_LETTERS = 60

_STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max")
#: What a narrow terminal has room for.
_FEWER_STATISTICS = ("p50", "p95", "max")


@dataclass(frozen=True)
class Distribution:
    """Durations in milliseconds; ``count`` frames have one. Without any, the rest is None."""

    count: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True)
class LabelStats:
    """Detections of one label; None stands for detections that have no label."""

    label: str | None
    detections: int
    #: Frames with at least one.
    frames: int
    #: Detections per second of the recording; None where it has no duration.
    per_second: float | None
    #: None where the model gives no scores.
    mean_score: float | None


@dataclass(frozen=True)
class SessionStats:
    """The result of `measure`. Rates are per second, durations named ``_ms`` in milliseconds."""

    session: str
    session_id: str
    frames: int
    #: From the first frame's capture to the last result; None without frames.
    duration_s: float | None
    #: Frames per second (``rate`` in the library). None below two frames.
    throughput_fps: float | None
    #: Source frames left out on purpose. None, here and below: the file does not have it.
    skipped: int | None
    #: Source frames lost once the model had started, in total and by place; ``at_start``: while it
    #: did.
    dropped: Mapping[str, int | None]
    #: ``latency_ms`` of the first frame, and how many times the median that is.
    first_frame: Mapping[str, float | None]
    #: ``frames`` before the session had settled (`warm_up` in the library); ``has_settled``, None
    #: where it is too short or not timed; ``window_frames`` of one window, of which it takes three.
    warm_up: Mapping[str, int | bool | None]
    #: ``exact`` or ``estimated``.
    quantiles: str
    stages: Mapping[str, Distribution]
    detections: int
    #: The most frequent first.
    labels: tuple[LabelStats, ...]
    #: From how many places a clip was cut; 1 for a recording.
    moments: int
    #: What to know before believing the numbers, in sentences (`caveats`).
    caveats: tuple[str, ...]


def measure(session: Session, reader: SqlReader | None = None) -> SessionStats:
    """Return the statistics of a session, in bounded memory.

    For a session that is still being recorded, they cover what was there at the first pass.

    Args:
        reader: A connection over just this session; without one, it is made for this.

    Raises:
        SessionError: Part of the file cannot be read.
    """
    with contextlib.nullcontext(reader) if reader else SqlReader([session]) as reader:
        exact = len(session) <= EXACT_FRAMES
        (frames,) = reader.rows(_frames_query(exact))
        labels = tuple(LabelStats(**row) for row in reader.rows(LABELS_QUERY))
        warm_up = reader.rows(_WARM_UP_QUERY)
        losses = reader.rows(_LOSSES_QUERY)
    dropped = losses[0] if losses else dict.fromkeys(_LOSSES, 0)
    skipped = dropped.pop("skipped")
    stages = _stages_of(frames)
    return SessionStats(
        session=str(session.path),
        session_id=session.id,
        frames=frames["frames"],
        duration_s=frames["duration_s"],
        throughput_fps=frames["fps"],
        skipped=skipped,
        dropped=dropped,
        first_frame={
            "latency_ms": frames["first_latency"],
            "times_median": _ratio(frames["first_latency"], stages["latency_ms"].p50),
        },
        warm_up=warm_up[0] if warm_up else _NO_WARM_UP,
        quantiles="exact" if exact else "estimated",
        stages=stages,
        detections=sum(label.detections for label in labels),
        labels=labels,
        moments=moments(session),
        caveats=caveats(session),
    )


def stage_durations(session: Session, reader: SqlReader) -> dict[str, Distribution]:
    """Return how long the stages of a session took, as `measure` does.

    Args:
        reader: A connection over just this session.
    """
    columns = ", ".join(_stage_columns(len(session) <= EXACT_FRAMES))
    (frames,) = reader.rows(f"SELECT {columns} FROM frames")
    return _stages_of(frames)


def _stages_of(frames: Mapping[str, Any]) -> dict[str, Distribution]:
    stages = {name: _distribution(frames[name]) for name in STAGES}
    if not stages["published_ms"].count:  # most recordings are not published
        del stages["published_ms"]
    return stages


def _stage_columns(exact: bool) -> list[str]:
    function = "_summary" if exact else "_estimated_summary"
    return [f"{function}({name}) AS {name}" for name in STAGES]


def _frames_query(exact: bool) -> str:
    columns = [
        "count(*) AS frames",
        "arg_min_null(latency_ms, frame) AS first_latency",
        "_seconds(captured_at, completed_at) AS duration_s",
        "rate(captured_at, completed_at) AS fps",
        *_stage_columns(exact),
    ]
    return "SELECT " + ",\n       ".join(columns) + "\nFROM frames"


_LOSSES = ("skipped", "total", *_DROP_PLACES, "at_start")
_LOSSES_QUERY = """\
SELECT skipped, dropped AS total, camera, queue, writer, at_start FROM _session_losses"""
_WARM_UP_QUERY = "SELECT warm_up_frames AS frames, has_settled, window_frames FROM warm_up"
_NO_WARM_UP = {"frames": 0, "has_settled": None, "window_frames": None}


LABELS_QUERY = """\
SELECT label, detections, frames, per_second, mean_score FROM label_rate
ORDER BY detections DESC, label"""


def queries() -> tuple[str, ...]:
    """Return the statements behind `measure`, for up to `EXACT_FRAMES` frames."""
    return _frames_query(exact=True), _LOSSES_QUERY, LABELS_QUERY, _WARM_UP_QUERY


def _distribution(summary: Mapping[str, Any]) -> Distribution:
    return Distribution(summary["frames"], **{name: summary[f"{name}_ms"] for name in _STATISTICS})


def _ratio(value: float | None, by: float | None) -> float | None:
    return None if value is None or not by else value / by


# --- writing -----------------------------------------------------------------------------------


def write_stats(stats: SessionStats, form: str, destination: Destination) -> None:
    """Write statistics as ``table``, ``markdown``, ``json`` or ``csv`` (one value a line)."""
    if form == "json":
        destination.write(json_text(asdict(stats), indent=2) + "\n")
    elif form == "csv":
        destination.write(csv_line(("section", "name", "statistic", "value", "unit"), destination))
        for row in _values(stats):
            destination.write(csv_line(row, destination))
    else:
        write_report(_sections(stats), _notes(stats), form, destination)


def _values(stats: SessionStats) -> Iterator[tuple[Any, ...]]:
    """Yield (section, name, statistic, value, unit): the shape that spreadsheets pivot."""
    yield "session", stats.session, "frames", stats.frames, "frames"
    yield "session", stats.session, "detections", stats.detections, "detections"
    yield "session", stats.session, "duration", stats.duration_s, "s"
    yield "session", stats.session, "throughput", stats.throughput_fps, "frames/s"
    yield "session", stats.session, "skipped", stats.skipped, "frames"
    yield "session", stats.session, "first_frame_latency", stats.first_frame["latency_ms"], "ms"
    yield "session", stats.session, "warm_up", stats.warm_up["frames"], "frames"
    yield "session", stats.session, "quantiles", stats.quantiles, None
    yield "session", stats.session, "moments", stats.moments, "moments"
    for caveat in stats.caveats:
        yield "session", stats.session, "caveat", caveat, None
    for place, count in stats.dropped.items():
        yield "dropped", place, "count", count, "frames"
    for name, distribution in stats.stages.items():
        for statistic, value in asdict(distribution).items():
            unit = "frames" if statistic == "count" else "ms"
            yield "stage", name.removesuffix("_ms"), statistic, value, unit
    for label in stats.labels:
        yield "label", label.label, "detections", label.detections, "detections"
        yield "label", label.label, "frames", label.frames, "frames"
        yield "label", label.label, "per_second", label.per_second, "1/s"
        yield "label", label.label, "mean_score", label.mean_score, None


def _sections(stats: SessionStats) -> Iterator[Section]:
    dropped = ", ".join(f"{place} {count_text(stats.dropped[place])}" for place in _DROP_PLACES)
    cuts = f"  (over {stats.moments - 1:,} cuts)" if stats.moments > 1 else ""
    at_start = stats.dropped["at_start"]
    more = f"; {at_start:,} more while the model started" if at_start else ""
    yield Section(
        "Recording",
        (),
        [
            ("frames", f"{stats.frames:,}"),
            ("detections", f"{stats.detections:,}"),
            ("duration", _number(stats.duration_s, " s")),
            ("throughput", _throughput(stats.throughput_fps) + cuts),
            ("skipped", count_text(stats.skipped)),
            ("dropped", f"{count_text(stats.dropped['total'])}  ({dropped}{more})"),
            ("settled", _settled(stats)),
        ],
    )
    yield stage_section(stats.stages)
    if stats.labels:
        yield Section(
            "Labels",
            ("label", "detections", "frames with it", "per second", "mean score"),
            [
                (
                    "-" if label.label is None else _short(label.label),
                    f"{label.detections:,}",
                    f"{label.frames:,}",
                    exact_rate_text(label.per_second),
                    _number(label.mean_score),
                )
                for label in stats.labels[:_MOST_LABELS]
            ],
        )


def stage_section(stages: Mapping[str, Distribution]) -> Section:
    """Return how long each stage took, as a table."""
    return _stages(stages, ("count", *_STATISTICS), _stages(stages, _FEWER_STATISTICS))


def _stages(
    stages: Mapping[str, Distribution], statistics: Sequence[str], narrow: Section | None = None
) -> Section:
    def text(distribution: Distribution, statistic: str) -> str:
        value = getattr(distribution, statistic)
        return f"{value:,}" if statistic == "count" else _number(value)

    rows = [
        (name.removesuffix("_ms"), *(text(d, statistic) for statistic in statistics))
        for name, d in stages.items()
    ]
    title = "Stages, ms" if narrow else "Stages, ms (fewer columns)"
    return Section(title, ("stage", *statistics), rows, narrow=narrow)


def _settled(stats: SessionStats) -> str:
    has_settled, window_frames = stats.warm_up["has_settled"], stats.warm_up["window_frames"]
    if not stats.frames:
        return "-"
    if has_settled is None:
        return unsettled(window_frames if stats.stages["latency_ms"].count else None)
    after = f"after {stats.warm_up['frames']:,} frames" if has_settled else "never within 10%"
    return f"{after}  (left out here: 0 frames)"


def unsettled(window_frames: int | None) -> str:
    """Return why it is not known whether a session settled."""
    if window_frames is None:
        return "not timed, so whether it settled is unknown"
    return f"too short to tell (that takes 3 windows of {window_frames:,} frames)"


def _notes(stats: SessionStats) -> Iterator[str]:
    yield from stats.caveats
    times = stats.first_frame["times_median"]
    if times is not None and times > _WARM_UP_RATIO:
        yield (
            f"The first frame took {_number(stats.first_frame['latency_ms'], ' ms')}, "
            f"{times:.1f} times the median: warm-up, most likely. It is counted above."
        )
    more = len(stats.labels) - _MOST_LABELS
    if more > 0:
        yield f"{more:,} more labels are left out here; --format csv and json have them all."
    if stats.quantiles != "exact":
        yield f"Quantiles are estimates (t-digest): more than {EXACT_FRAMES:,} frames."


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:,.3f}{unit}"


def _throughput(fps: float | None) -> str:
    return exact_rate_text(fps) + ("" if fps is None else " frames/s")


def _short(label: str) -> str:
    return label if len(label) <= _LABEL_LETTERS else label[: _LABEL_LETTERS - 1] + "…"
