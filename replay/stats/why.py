"""Why a recording ran at the rate it did: what limited it, in sentences with its own numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from dgrec.rates import rate_text
from dgrec.replay.output import Destination, Section, json_text, write_report
from dgrec.replay.query import SqlReader
from dgrec.replay.stats.caveats import caveats, moments
from dgrec.replay.stats.oversubscription import HUMPS_QUERY, Humps, oversubscription
from dgrec.replay.stats.questions import NAMED_SESSIONS
from dgrec.replay.stats.summary import unsettled
from dgrec.units import counted

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["LOADS_QUERY", "PIPELINES_QUERY", "Load", "Pipeline", "explain", "write_pipelines"]

#: A part that is busy for this share of the time is the limit.
_BUSY = 0.9
#: A part that is busy for less than this is not.
_IDLE = 0.8
#: A loop that is busy for this share of the time comes too late for some of a camera's frames.
_OFTEN = 0.6
#: Frames that wait in the queue on average where the queue is never empty.
_QUEUED = 3.0
#: A source of whose frames more than this share is replaced while they wait is not the limit.
_REPLACED = 0.02
#: A rate that was asked for is what limits if it is reached up to this share.
_REACHED = 0.97

#: Two bounds that are no further apart are one number to a reader.
_NEAR = 0.05
#: Stages whose times may contain waiting for their turn.
_WITH_WAITING = ("preprocess", "postprocess")

#: Of a session that is shorter, even of several frames, a rate says nothing.
_SHORTEST_S = 1e-3

_PARTS = {
    "read": "reading the source",
    "preprocess": "preprocessing",
    "inference": "inference",
    "postprocess": "postprocessing",
    "waiting": "waiting",
    "recorder": "recording (with display, video and publishing)",
    "thread": "reading the source and recording, in turns,",
    "asked": "--fps or --every",
    "source": "the source",
}


@dataclass(frozen=True)
class Load:
    """How busy one part of the pipeline was; None where the session does not tell."""

    stage: str
    mean_ms: float | None
    #: On average.
    frames_in_it: float | None
    #: How many frames it can take at once; None where that is unknown, or any number.
    workers: int | None
    #: Share of the time, 0 to 1, if nothing of its time was waiting.
    busy: float | None
    #: Share of the time that it was busy even if some of its time was waiting.
    busy_at_least: float | None
    #: Results a second that it can give at most, by the times measured here.
    capacity_fps: float | None = None

    def at(self, fps: float | None) -> Load:
        """Return the load with its capacity, known from the rate at which it was measured."""
        if fps is None or not self.busy_at_least:
            return self
        # Not from mean_ms: the source is read for frames, too, that nobody takes. And no part can
        # do less than what it did.
        return replace(self, capacity_fps=fps / min(1.0, self.busy_at_least))


@dataclass(frozen=True)
class Pipeline:
    """What the library's ``pipeline`` and ``stage_load`` say of one session, and what it means."""

    session: str
    session_id: str
    frames: int
    #: Frames before the session ran (`running` in the library), which none of the numbers counts.
    left_out: int
    #: None where the session is too short to tell, or was not timed.
    has_settled: bool | None
    #: Of the warm-up's windows, of which it takes three.
    window_frames: int | None
    #: None, here and below: the session does not tell it.
    seconds: float | None
    fps: float | None
    #: Counting the rows that were lost in front of the disk.
    inferred_fps: float | None
    latency_ms: float | None
    in_flight: float | None
    one_at_a_time_fps: float | None
    #: What reached dgrec of the source's frames, and what it sent at least.
    delivered_fps: float | None
    sent_fps: float | None
    skipped: int | None
    dropped_camera: int | None
    dropped_queue: int | None
    dropped_writer: int | None
    #: Lost while the model started.
    dropped_at_start: int | None
    loads: tuple[Load, ...]
    #: A stage, ``asked`` (--fps or --every), ``thread`` (reading and recording in turns),
    #: ``writer`` (rows were lost in front of the disk), or None: that cannot be told.
    limit: str | None
    #: What the rate can be at most if the limit is taken away, and the part that can do no more.
    next_fps: float | None
    next_limit: str | None
    findings: tuple[str, ...]
    #: What has to be known before that is believed (`dgrec.replay.stats.caveats`).
    caveats: tuple[str, ...] = ()

    @property
    def delivered(self) -> int:
        """How many frames the source gave, as far as the losses are known."""
        return self.frames + (self.skipped or 0) + (self.dropped_queue or 0)

    @property
    def replaced(self) -> float:
        """The share of them that a newer one replaced."""
        return (self.dropped_queue or 0) / self.delivered


@dataclass(frozen=True)
class _Known:
    """What the metadata says of the pipeline."""

    is_live: bool
    is_local: bool
    every: int
    asked_fps: float | None


#: What `explain` asks.
LOADS_QUERY = "SELECT * FROM stage_load"
PIPELINES_QUERY = f"""\
SELECT s.session, p.*, w.has_settled, w.window_frames, s.is_live, s.inference_host, losses.*
FROM pipeline p JOIN {NAMED_SESSIONS} s USING (session_id) JOIN warm_up w USING (session_id) JOIN (
    SELECT session_id AS of_session,
           sum(CASE WHEN runs THEN skipped_before ELSE 0 END)::BIGINT AS skipped,
           _dropped(CASE WHEN runs THEN dropped_camera ELSE 0 END, at_start) AS dropped_camera,
           _dropped(CASE WHEN runs THEN dropped_queue ELSE 0 END, at_start) AS dropped_queue,
           _dropped(CASE WHEN runs THEN dropped_writer ELSE 0 END, at_start) AS dropped_writer,
           _dropped_at_start(dropped_before, at_start) AS dropped_at_start
    FROM (SELECT *, frame > first_running_frame AS runs
          FROM frame_losses JOIN running USING (session_id))
    GROUP BY session_id
) losses ON of_session = session_id
ORDER BY s.started_at, session_id"""


def explain(sessions: Sequence[Session], reader: SqlReader) -> list[Pipeline]:
    """Return what limited each of the sessions that has frames.

    Args:
        reader: A connection over these sessions.
    """
    # Most of these are asked for by others of them.
    reader.keep("model_start", "warm_up", "running", "pipeline", "stage_load")
    by_id = {session.id: session for session in sessions}
    loads: dict[str, list[Load]] = {}
    for row in reader.rows(LOADS_QUERY):
        loads.setdefault(row.pop("session_id"), []).append(Load(**row))
    humps = {row.pop("session_id"): Humps(**row) for row in reader.rows(HUMPS_QUERY)}
    return [
        _pipeline(
            by_id[row["session_id"]],
            row,
            tuple(loads.get(row["session_id"], ())),
            humps.get(row["session_id"]),
        )
        for row in reader.rows(PIPELINES_QUERY)
    ]


def _pipeline(
    session: Session, row: dict[str, Any], loads: tuple[Load, ...], humps: Humps | None
) -> Pipeline:
    options = session.metadata.get("options")
    options = options if isinstance(options, dict) else {}
    known = _Known(
        is_live=bool(row.pop("is_live")),
        is_local=row.pop("inference_host") == "@local",
        every=_positive(options.get("every"), int) or 1,
        asked_fps=_positive(options.get("fps"), int, float),
    )
    del row["of_session"]
    if moments(session) > 1:
        # Nothing was recorded in most of that time.
        row |= dict.fromkeys(("fps", "inferred_fps", "in_flight", "delivered_fps", "sent_fps"))
        loads = tuple(
            replace(load, frames_in_it=None, busy=None, busy_at_least=None) for load in loads
        )
    loads = tuple(load.at(row["inferred_fps"]) for load in loads)
    draft = Pipeline(**row, loads=loads, limit=None, next_fps=None, next_limit=None, findings=())
    limit = _limit(draft, known)
    after = _next_limit(draft, limit, known)
    draft = replace(draft, limit=limit, next_limit=after[0], next_fps=after[1])
    findings = [*_findings(draft, known), *oversubscription(session, loads, humps)]
    return replace(draft, findings=tuple(findings), caveats=caveats(session))


def _positive(value: Any, *types: type) -> Any:
    return value if type(value) in types and value > 0 else None


def _limit(p: Pipeline, known: _Known) -> str | None:
    if not p.inferred_fps:
        return None
    lost_rows = p.dropped_writer or 0
    if lost_rows > _REPLACED * (p.frames + lost_rows):
        return "writer"
    skips = (p.skipped or 0) > (p.dropped_queue or 0)
    is_unknown = known.is_live and skips and known.asked_fps is None and known.every == 1
    if known.is_live and p.delivered_fps and not is_unknown:
        expected = p.delivered_fps / known.every
        if known.asked_fps is not None:
            expected = min(expected, known.asked_fps)
        if p.inferred_fps >= _REACHED * expected:
            if skips:
                return "asked"
            if p.replaced <= 1 - _REACHED:
                return "read"
        if p.replaced <= _REPLACED:
            # What left most of its frames out is not known, or was not asked for.
            return None
    at_least = {load.stage: load.busy_at_least or 0.0 for load in p.loads if load.workers}
    if is_unknown and max(at_least.values(), default=0.0) < _IDLE:
        return "asked"  # nothing else leaves out most of a camera's frames
    both = at_least.get("read", 0.0) + at_least.get("recorder", 0.0)
    stage = max(at_least, key=lambda name: at_least[name], default=None)
    if stage is not None and at_least[stage] >= _BUSY and at_least[stage] >= 0.9 * both:
        return stage
    if both >= _BUSY and "read" in at_least:
        return "thread"
    if known.is_live and (p.in_flight or _QUEUED) < _QUEUED and stage == "recorder":
        # Frames are replaced, though the queue has room: the loop comes too late for them. It
        # takes a frame at the camera's beat, so that it need not be busy all the time for that.
        return stage if at_least[stage] >= _OFTEN else None
    return _by_elimination(p, both) if known.is_local else None


def _by_elimination(p: Pipeline, thread: float) -> str | None:
    """Return the one stage that can be busy all the time, where the queue is never empty."""
    waiting = _load(p, "waiting")
    if waiting is None or (waiting.frames_in_it or 0.0) < _QUEUED or thread >= _IDLE:
        return None
    # A part of which it is not known how many frames it takes at once can be busy with few.
    can_be = [
        load
        for load in p.loads
        if load.stage in ("preprocess", "inference", "postprocess")
        and (load.busy or load.frames_in_it or 0.0) >= _IDLE
    ]
    (only,) = can_be if len(can_be) == 1 else (None,)
    return only.stage if only is not None and (only.busy or 0.0) >= _BUSY else None


def _findings(p: Pipeline, known: _Known) -> Iterator[str]:
    frames = counted(p.frames, "frame")
    if p.seconds is None:
        yield f"{frames}, and no telling at what rate: captured_at or completed_at is missing."
        return
    if p.frames < 2 or p.seconds < _SHORTEST_S:
        yield f"{frames} in {_ms(p.seconds * 1e3)}: too little to tell a rate from."
        return
    if p.fps is None:
        yield "From moments of a recording, its rate and what limits it cannot be told."
    else:
        yield _fps(p.fps) + _headline(p, known)
    if p.latency_ms is None:
        yield "How many frames were on their way at a time cannot be told: latency_ms is missing."
    elif p.fps is not None and p.in_flight is not None:
        yield _law(p, p.fps, p.latency_ms, p.in_flight)
    if p.latency_ms:
        yield _latency(p, p.latency_ms)
    yield from _losses(p)
    if p.next_limit is not None:
        yield (
            f"Without that it would be at most {_fps(p.next_fps)}, by the times measured here: "
            f"{_PARTS[p.next_limit]} can do no more."
        )
    yield _left_out(p)


def _losses(p: Pipeline) -> Iterator[str]:
    if p.dropped_queue and p.delivered_fps is not None:
        yield (
            f"{p.dropped_queue:,} of {p.delivered:,} frames were replaced by a newer one while "
            f"they waited: the source delivers {_fps(p.delivered_fps)}, more than is taken."
        )
    if p.dropped_camera:
        sent = "" if p.sent_fps is None else f": it sends at least {_fps(p.sent_fps)}"
        yield f"At least {p.dropped_camera:,} frames of the source were lost on the way{sent}."
    if p.dropped_at_start:
        yield f"{p.dropped_at_start:,} frames were lost while the model started."


def _left_out(p: Pipeline) -> str:
    first = "the first frame" if p.left_out == 1 else f"the first {p.left_out:,} frames"
    if p.has_settled:
        what = first if p.left_out else "0 frames"
        return f"Left out as warm-up: {what}."
    what = f"{first} (captured before the first result)" if p.left_out else "0 frames"
    if p.has_settled is None:
        window_frames = None if p.latency_ms is None else p.window_frames
        return f"Left out as warm-up: {what}; {unsettled(window_frames)}."
    return f"Left out as warm-up: {what}; rate and latency never settled within 10%."


def _headline(p: Pipeline, known: _Known) -> str:
    """Return what limited the rate, as what comes after the rate itself."""
    inference = _load(p, "inference")
    mean_ms = None if inference is None else inference.mean_ms
    start = ": "
    if mean_ms and p.limit != "inference":
        start = f" although inference takes {_ms(mean_ms)}: "
    if p.limit is None:
        return start + _cannot_tell(p, known)
    if p.limit == "asked":
        return start + (
            f"that is the rate asked for. --fps or --every left out {p.skipped or 0:,} of "
            f"{p.frames + (p.skipped or 0):,} frames."
        )
    if p.limit == "writer":
        return start + (
            f"results come at {_fps(p.inferred_fps)}, and {p.dropped_writer:,} of them were lost "
            "in front of the disk: writing is the limit."
        )
    read, recorder = _load(p, "read"), _load(p, "recorder")
    if p.limit == "thread":
        assert read is not None
        assert recorder is not None
        return start + (
            f"reading the source ({_ms(read.mean_ms)} a frame) and {_PARTS['recorder']} "
            f"({_ms(recorder.mean_ms)}) take turns, and together are busy "
            f"{min(1.0, (read.busy or 0) + (recorder.busy or 0)):.0%} of the time: they are the "
            "limit."
        )
    if p.limit == "read" and known.is_live:
        return start + (
            f"the source delivers {_fps(p.delivered_fps)}, and all of it is taken: the camera is "
            "the limit."
        )
    load = _load(p, p.limit)
    assert load is not None
    workers = f" on {load.workers} devices" if (load.workers or 1) > 1 else ""
    times = " (waiting for its turn included)" if _has_waited(load) else ""
    return start + (
        f"{_PARTS[p.limit]} takes {_ms(load.mean_ms)} a frame{times} and is busy {_busy(load)} of "
        f"the time{workers}: it is the limit."
    )


def _cannot_tell(p: Pipeline, known: _Known) -> str:
    """Return what is known where nothing is known to have been the limit."""
    inference = _load(p, "inference")
    if p.fps is not None and known.is_live and p.replaced > _REPLACED:
        begin = "what limits it cannot be told, but it is not the source."
    else:
        begin = "what limits it cannot be told."
    # All of the pipeline is a part, too: whatever in it is not timed is in its latency.
    if not known.is_live and p.in_flight is not None and p.in_flight < _IDLE:
        return (
            f"the pipeline waits for frames. At least {1 - p.in_flight:.0%} of the time none was "
            "on its way."
        )
    if inference is None or inference.mean_ms is None:
        return "the runtime reported no times of inference, so what limits it cannot be told."
    unsure = [load for load in p.loads if load.stage != "waiting" and _may_be_busy(load)]
    if unsure:
        most = max(unsure, key=lambda load: load.frames_in_it or 0.0)
        if most.stage not in _WITH_WAITING:
            return (
                f"{begin} {_PARTS[most.stage].capitalize()} may: it was busy {_busy(most)} of the "
                "time, and in so short a recording that is as much as can be known."
            )
        return (
            f"{begin} {_PARTS[most.stage].capitalize()} may: a frame takes "
            f"{_ms(most.mean_ms)} there, but how much of that is waiting for its turn is not known."
        )
    timed = [load for load in p.loads if load.busy is not None]
    most = max(timed, key=lambda load: load.busy or 0.0)
    where = "resizing before inference, or a busy processor"
    if not known.is_local:
        where = "resizing before inference, a network, an AI server, or a busy processor"
    return (
        f"{begin} No part that is timed was busy all the time "
        f"({_PARTS[most.stage]} most, {_busy(most)}); the rest may go where nothing measures it, "
        f"such as {where}."
    )


def _may_be_busy(load: Load) -> bool:
    """Return whether a part's own times leave open that it was busy all the time."""
    if load.stage in _WITH_WAITING:
        return (load.frames_in_it or 0.0) >= _IDLE
    return (load.busy_at_least or 0.0) < _BUSY <= (load.busy or 0.0)


def _has_waited(load: Load) -> bool:
    return load.stage in _WITH_WAITING and (load.busy or 0) > (load.busy_at_least or 0)


def _busy(load: Load) -> str:
    """Return the share of the time that a part was busy, as far as it is known."""
    if load.busy is None or load.busy_at_least is None:
        return "-"
    if load.busy - load.busy_at_least < _NEAR:
        return f"{load.busy:.0%}"
    return f"{load.busy_at_least:.0%} to {load.busy:.0%}"


def _law(p: Pipeline, fps: float, latency_ms: float, in_flight: float) -> str:
    if p.one_at_a_time_fps is None:
        return "Every latency is zero."
    return (
        f"fps is not 1/latency, which is {_fps(p.one_at_a_time_fps)}: a frame takes "
        f"{_ms(latency_ms)} from capture to result, and {in_flight:.1f} are on their way at a time "
        f"(Little's law: {rate_text(fps)}/s x {latency_ms / 1e3:.3g} s)."
    )


def _latency(p: Pipeline, latency_ms: float) -> str:
    parts = [
        (load.mean_ms, load.stage)
        for load in p.loads
        if load.mean_ms is not None and load.stage not in ("read", "recorder")
    ]
    if not parts:
        return f"Of the {_ms(latency_ms)} nothing is known: the runtime reported no times."
    told = ", ".join(
        f"{_PARTS[stage]} {_ms(mean)} ({mean / latency_ms:.0%})"
        for mean, stage in sorted(parts, key=lambda part: (-part[0], part[1]))
    )
    return f"Where the {_ms(latency_ms)} go: {told}."


def _next_limit(p: Pipeline, limit: str | None, known: _Known) -> tuple[str | None, float | None]:
    """Return the part that can do least of those that are left, and what it can do at most.

    What nothing measures may be able to do still less: the rate is an upper bound.
    """
    if limit not in _PARTS or p.inferred_fps is None:
        return None, None
    capacities = {
        load.stage: load.capacity_fps
        for load in p.loads
        if load.capacity_fps is not None and load.workers and load.stage != limit
    }
    if limit == "thread":
        capacities.pop("read", None)
        capacities.pop("recorder", None)
    if known.is_live and limit != "read" and p.delivered_fps:
        source = p.delivered_fps
        if limit != "asked":
            source /= known.every
            if known.asked_fps is not None and known.asked_fps < source:
                capacities["asked"] = max(p.inferred_fps, known.asked_fps)
        capacities["source"] = max(p.inferred_fps, source)
    if not capacities:
        return None, None
    stage = min(capacities, key=lambda name: (capacities[name], name))
    return stage, capacities[stage]


def _load(p: Pipeline, stage: str) -> Load | None:
    return next((load for load in p.loads if load.stage == stage), None)


def _fps(value: float | None) -> str:
    return f"{rate_text(value)} fps"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


# --- writing -----------------------------------------------------------------------------------


def write_pipelines(pipelines: Sequence[Pipeline], form: str, destination: Destination) -> None:
    """Write them as ``table``, ``markdown`` or ``json``."""
    if form == "json":
        destination.write(json_text([asdict(p) for p in pipelines], indent=2) + "\n")
        return
    for number, pipeline in enumerate(pipelines):
        if number:
            destination.write("\n")
        if len(pipelines) > 1 or form == "markdown":
            title = f"# {pipeline.session}\n\n" if form == "markdown" else f"{pipeline.session}\n"
            destination.write(title)
        for finding in (*pipeline.caveats, *pipeline.findings):
            destination.write(f"- {finding}\n" if form == "markdown" else f"{finding}\n")
        destination.write("\n")
        write_report([_section(pipeline)], (), form, destination)


def _section(p: Pipeline) -> Section:
    return Section(
        "How busy each part was",
        ("part", "mean ms", "frames in it", "workers", "busy", "at most fps"),
        [
            (
                load.stage,
                _cell(load.mean_ms),
                _cell(load.frames_in_it),
                "-" if load.workers is None else str(load.workers),
                _busy(load),
                _cell(load.capacity_fps, 1),
            )
            for load in p.loads
        ],
    )


def _cell(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
