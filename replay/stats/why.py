"""Why a recording ran at the rate it did: what limited it, in sentences with its own numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from replay.output.destination import Destination
from replay.output.sections import Section, write_report
from replay.output.values import json_text
from replay.query.reader import SqlReader
from replay.stats.caveats import caveats, moments
from replay.stats.questions import NAMED_SESSIONS
from replay.stats.summary import unsettled

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["LOADS_QUERY", "PIPELINES_QUERY", "Load", "Pipeline", "explain", "write_pipelines"]

#: A part that is busy for this share of the time leaves room for little else: it is the limit.
_BUSY = 0.8
#: A source of whose frames more than this share is replaced while they wait is not the limit.
_REPLACED = 0.02

#: Of a session that is shorter, even of several frames, a rate says nothing.
_SHORTEST_S = 1e-3

_PARTS = {
    "read": "reading the source",
    "preprocess": "preprocessing",
    "inference": "inference",
    "postprocess": "postprocessing",
    "waiting": "waiting",
    "recorder": "recording (with display and publishing)",
}


@dataclass(frozen=True)
class Load:
    """How busy one part of the pipeline was; None where the runtime reported no times."""

    stage: str
    mean_ms: float | None
    #: On average.
    frames_in_it: float | None
    #: How many frames it can take at once; None for waiting, which takes any number.
    workers: int | None
    #: Share of the time, 0 to 1.
    busy: float | None
    #: Results a second at which it would be busy all the time.
    capacity_fps: float | None = None

    def at(self, fps: float | None) -> Load:
        """Return the load with its capacity, known from the rate at which it was measured."""
        if fps is None or self.workers is None or not self.frames_in_it:
            return self
        # Not from mean_ms: the source is read for frames, too, that nobody takes.
        return replace(self, capacity_fps=fps * self.workers / self.frames_in_it)


@dataclass(frozen=True)
class Pipeline:
    """What the library's ``pipeline`` and ``stage_load`` say of one session, and what it means."""

    session: str
    session_id: str
    frames: int
    #: Frames of the warm-up, which none of the numbers here counts.
    left_out: int
    #: None where the session is too short to tell, or was not timed.
    has_settled: bool | None
    #: Of the warm-up's windows, of which it takes three.
    window_frames: int | None
    #: None, here and below: the session does not tell it.
    seconds: float | None
    fps: float | None
    latency_ms: float | None
    in_flight: float | None
    one_at_a_time_fps: float | None
    skipped: int | None
    dropped_camera: int | None
    dropped_queue: int | None
    loads: tuple[Load, ...]
    #: A stage, ``asked`` (--fps or --every), ``thread`` (reading and recording in turns), or None.
    limit: str | None
    findings: tuple[str, ...]
    #: What has to be known before that is believed (`replay.stats.caveats`).
    caveats: tuple[str, ...] = ()

    @property
    def delivered(self) -> int:
        """How many frames the source gave, as far as the losses are known."""
        return self.frames + (self.skipped or 0) + (self.dropped_queue or 0)


#: What `explain` asks.
LOADS_QUERY = "SELECT * FROM stage_load"
PIPELINES_QUERY = f"""\
SELECT s.session, p.*, w.has_settled, w.window_frames, s.source_kind, s.inference_host, losses.*
FROM pipeline p JOIN {NAMED_SESSIONS} s USING (session_id) JOIN warm_up w USING (session_id) JOIN (
    SELECT session_id AS of_session, sum(skipped_before)::BIGINT AS skipped,
           sum(dropped_camera)::BIGINT AS dropped_camera,
           sum(dropped_queue)::BIGINT AS dropped_queue
    FROM steady_frames GROUP BY session_id
) losses ON of_session = session_id
ORDER BY s.started_at, session_id"""


def explain(sessions: Sequence[Session], reader: SqlReader) -> list[Pipeline]:
    """Return what limited each of the sessions that has frames.

    Args:
        reader: A connection over these sessions.
    """
    by_id = {session.id: session for session in sessions}
    loads: dict[str, list[Load]] = {}
    for row in reader.rows(LOADS_QUERY):
        loads.setdefault(row.pop("session_id"), []).append(Load(**row))
    return [
        _pipeline(by_id[row["session_id"]], row, tuple(loads.get(row["session_id"], ())))
        for row in reader.rows(PIPELINES_QUERY)
    ]


def _pipeline(session: Session, row: dict[str, Any], loads: tuple[Load, ...]) -> Pipeline:
    is_live = row.pop("source_kind") in ("camera", "url")
    is_local = row.pop("inference_host") == "@local"
    del row["of_session"]
    if moments(session) > 1:
        # Nothing was recorded in most of that time.
        row |= {"fps": None, "in_flight": None}
        loads = tuple(replace(load, frames_in_it=None, busy=None) for load in loads)
    loads = tuple(load.at(row["fps"]) for load in loads)
    draft = Pipeline(**row, loads=loads, limit=None, findings=())
    limit = _limit(draft, is_live)
    return Pipeline(
        **row,
        loads=loads,
        limit=limit,
        findings=tuple(_findings(draft, limit, is_live, is_local)),
        caveats=caveats(session),
    )


def _limit(p: Pipeline, is_live: bool) -> str | None:
    busy = {load.stage: load.busy for load in p.loads if load.busy is not None}
    if (p.dropped_queue or 0) > _REPLACED * p.delivered:
        busy.pop("read", None)  # it delivers more than is taken
    if is_live and (p.skipped or 0) > (p.dropped_queue or 0):
        # A camera is waited for all the time; what left most of its frames out was asked for.
        busy.pop("read", None)
        if max(busy.values(), default=0.0) < _BUSY:
            return "asked"
    stage = max(busy, key=lambda name: busy[name], default=None)
    if stage is not None and busy[stage] >= _BUSY:
        return stage
    if not is_live and busy.get("read", 0.0) + busy.get("recorder", 0.0) >= _BUSY:
        return "thread"
    return None


def _findings(p: Pipeline, limit: str | None, is_live: bool, is_local: bool) -> Iterator[str]:
    frames = "1 frame" if p.frames == 1 else f"{p.frames:,} frames"
    if p.seconds is None:
        yield f"{frames}, and no telling at what rate: captured_at or completed_at is missing."
        return
    if p.frames < 2 or p.seconds < _SHORTEST_S:
        yield f"{frames} in {_ms(p.seconds * 1e3)}: too little to tell a rate from."
        return
    if p.fps is None:
        yield "From moments of a recording, its rate and what limits it cannot be told."
    else:
        yield _fps(p.fps) + _headline(p, limit, p.delivered / p.seconds, is_live, is_local)
    if p.latency_ms is None:
        yield "How many frames were on their way at a time cannot be told: latency_ms is missing."
    elif p.fps is not None and p.in_flight is not None:
        yield _law(p, p.fps, p.latency_ms, p.in_flight)
    if p.latency_ms:
        yield _latency(p, p.latency_ms)
    if p.dropped_queue and p.fps is not None:
        yield (
            f"{p.dropped_queue:,} of {p.delivered:,} frames were replaced by a newer one while "
            f"they waited: the source delivers {_fps(p.delivered / p.seconds)}, more than is taken."
        )
    if p.dropped_camera:
        yield f"At least {p.dropped_camera:,} frames were lost before dgrec read them."
    after = _next_limit(p, limit)
    if after is not None:
        yield after
    if p.left_out:
        yield f"Left out as warm-up: the first {p.left_out:,} frames."
    elif p.has_settled:
        yield "Left out as warm-up: 0 frames."
    elif p.has_settled is None:
        window_frames = None if p.latency_ms is None else p.window_frames
        yield f"Left out as warm-up: 0 frames; {unsettled(window_frames)}."
    else:
        yield "Left out as warm-up: 0 frames; rate and latency never settled within 10%."


def _headline(
    p: Pipeline, limit: str | None, delivered_fps: float, is_live: bool, is_local: bool
) -> str:
    """Return what limited the rate, as what comes after the rate itself."""
    inference = _load(p, "inference")
    mean_ms = None if inference is None else inference.mean_ms
    start = ": "
    if mean_ms and limit != "inference":
        start = f" although inference takes {_ms(mean_ms)}: "
    if limit is None:
        # All of the pipeline is a part, too: whatever in it is not timed is in its latency.
        if p.in_flight is not None and p.in_flight < _BUSY:
            idle = f"{1 - p.in_flight:.0%}"
            return start + (
                f"the pipeline waits for frames. At least {idle} of the time none was on its way."
            )
        if mean_ms is None:
            return start + (
                "the runtime reported no times of inference, so what limits it cannot be told."
            )
        most = max(p.loads, key=lambda load: load.busy or 0.0)
        where = "a busy processor" if is_local else "a network, an AI server, or a busy processor"
        return start + (
            f"no part was busy all the time ({_PARTS[most.stage]} most, {most.busy or 0:.0%}). The "
            f"time goes where nothing measures it, such as {where}."
        )
    if limit == "asked":
        return start + (
            f"that is the rate asked for. --fps or --every left out {p.skipped or 0:,} of "
            f"{p.frames + (p.skipped or 0):,} frames."
        )
    if limit == "thread":
        read, recorder = _load(p, "read"), _load(p, "recorder")
        assert read is not None
        assert recorder is not None
        return start + (
            f"reading the source ({_ms(read.mean_ms)} a frame) and {_PARTS['recorder']} "
            f"({_ms(recorder.mean_ms)}) take turns, and together are busy "
            f"{(read.busy or 0) + (recorder.busy or 0):.0%} of the time."
        )
    load = _load(p, limit)
    assert load is not None
    if limit == "read":
        who = "the camera" if is_live else "reading the source"
        # By the frames that came, since reads may overlap the rest.
        return start + (
            f"the source delivers {_fps(delivered_fps)} (read {_ms(load.mean_ms)} a frame, "
            f"{load.busy:.0%} of the time): {who} is the limit."
        )
    workers = f" on {load.workers} devices" if (load.workers or 1) > 1 else ""
    return start + (
        f"{_PARTS[limit]} takes {_ms(load.mean_ms)} a frame and is busy {load.busy:.0%} of the "
        f"time{workers}: it is the limit."
    )


def _law(p: Pipeline, fps: float, latency_ms: float, in_flight: float) -> str:
    if p.one_at_a_time_fps is None:
        return "Every latency is zero."
    return (
        f"fps is not 1/latency: a frame takes {_ms(latency_ms)} from capture to result, and "
        f"{in_flight:.1f} are on their way at a time (Little's law: {fps:.1f}/s x "
        f"{latency_ms / 1e3:.3g} s). One at a time, it would be {_fps(p.one_at_a_time_fps)}."
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
        for mean, stage in sorted(parts, reverse=True)
    )
    return f"Where the {_ms(latency_ms)} go: {told}."


def _next_limit(p: Pipeline, limit: str | None) -> str | None:
    capacities = {
        load.stage: capacity
        for load in p.loads
        if (capacity := load.capacity_fps) is not None and load.stage not in (limit, "waiting")
    }
    if limit not in _PARTS or not capacities:
        return None
    if p.dropped_queue or limit == "read":
        capacities.pop("read", None)
    if not capacities:
        return None
    stage = min(capacities, key=lambda name: capacities[name])
    return f"Without that, {_PARTS[stage]} would be the next limit, at {_fps(capacities[stage])}."


def _load(p: Pipeline, stage: str) -> Load | None:
    return next((load for load in p.loads if load.stage == stage), None)


def _fps(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} fps"


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
                "-" if load.busy is None else f"{load.busy:.1%}",
                _cell(load.capacity_fps, 1),
            )
            for load in p.loads
        ],
    )


def _cell(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
