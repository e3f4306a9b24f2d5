"""The bottleneck of a recording: the stage, or whatever else it was, that limited its rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dgrec.replay.query import SqlReader
from dgrec.replay.stats.caveats import caveats, moments
from dgrec.replay.stats.findings import STAGE_NAMES, findings
from dgrec.replay.stats.oversubscription import HUMPS_QUERY, Humps, oversubscription
from dgrec.replay.stats.pipeline import BUSY, IDLE, REPLACED, Load, Pipeline, Setup
from dgrec.replay.stats.publishing_findings import PUBLISHED_QUERY, published
from dgrec.replay.stats.questions import NAMED_SESSIONS
from dgrec.session import Session

#: A loop that is busy for this share of the time comes too late for some of a camera's frames.
_OFTEN = 0.6
#: Frames that wait in the queue on average where the queue is never empty.
_QUEUED = 3.0
#: A rate that was asked for is the limit if this share of it is reached.
_REACHED = 0.97

#: The statements of `explain`.
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
    # Most of these views are used by others of them.
    reader.keep("model_start", "warm_up", "running", "pipeline", "stage_load", "_session_losses")
    by_id = {session.id: session for session in sessions}
    loads: dict[str, list[Load]] = {}
    for row in reader.rows(LOADS_QUERY):
        loads.setdefault(row.pop("session_id"), []).append(Load(**row))
    humps = {row.pop("session_id"): Humps(**row) for row in reader.rows(HUMPS_QUERY)}
    taken = {row.pop("session_id"): row for row in reader.rows(PUBLISHED_QUERY)}
    return [
        _pipeline(
            by_id[row["session_id"]],
            row,
            tuple(loads.get(row["session_id"], ())),
            humps.get(row["session_id"]),
            taken.get(row["session_id"]),
        )
        for row in reader.rows(PIPELINES_QUERY)
    ]


def _pipeline(
    session: Session,
    row: dict[str, Any],
    loads: tuple[Load, ...],
    humps: Humps | None,
    taken: dict[str, Any] | None,
) -> Pipeline:
    options = session.metadata.get("options")
    options = options if isinstance(options, dict) else {}
    setup = Setup(
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
            Load(load.stage, load.mean_ms, None, load.workers, None, None, None) for load in loads
        )
    draft = Pipeline(**row, loads=loads, limit=None, next_fps=None, next_limit=None, findings=())
    limit = _limit(draft, setup)
    after = _next_limit(draft, limit, setup)
    draft = replace(draft, limit=limit, next_limit=after[0], next_fps=after[1])
    sentences = (
        *findings(draft, setup),
        *published(session, taken),
        *oversubscription(session, loads, humps),
    )
    return replace(draft, findings=sentences, caveats=caveats(session))


def _positive(value: Any, *types: type) -> Any:
    return value if type(value) in types and value > 0 else None


def _limit(p: Pipeline, setup: Setup) -> str | None:
    if not p.inferred_fps:
        return None
    lost_rows = p.dropped_writer or 0
    if lost_rows > REPLACED * (p.frames + lost_rows):
        return "writer"
    skips = (p.skipped or 0) > (p.dropped_queue or 0)
    is_unknown = setup.is_live and skips and setup.asked_fps is None and setup.every == 1
    if setup.is_live and p.delivered_fps and not is_unknown:
        expected = p.delivered_fps / setup.every
        if setup.asked_fps is not None:
            expected = min(expected, setup.asked_fps)
        if p.inferred_fps >= _REACHED * expected:
            if skips:
                return "asked"
            if p.replaced <= 1 - _REACHED:
                return "read"
        if p.replaced <= REPLACED:
            # What left most of its frames out is not known, or was not asked for.
            return None
    at_least = {load.stage: load.busy_at_least or 0.0 for load in p.loads if load.workers}
    if is_unknown and max(at_least.values(), default=0.0) < IDLE:
        return "asked"  # nothing else leaves out most of a camera's frames
    both = at_least.get("read", 0.0) + at_least.get("recorder", 0.0)
    stage = max(at_least, key=lambda name: at_least[name], default=None)
    if stage is not None and at_least[stage] >= BUSY and at_least[stage] >= 0.9 * both:
        return stage
    if both >= BUSY and "read" in at_least:
        return "thread"
    if setup.is_live and (p.in_flight or _QUEUED) < _QUEUED and stage == "recorder":
        # Frames are replaced, though the queue has room: the loop comes too late for them. It
        # takes a frame at the camera's beat, so it can be late without being busy all the time.
        return stage if at_least[stage] >= _OFTEN else None
    return _by_elimination(p, both) if setup.is_local else None


def _by_elimination(p: Pipeline, thread: float) -> str | None:
    """Return the one stage that can be busy all the time, where the queue is never empty."""
    waiting = p.load("waiting")
    if waiting is None or (waiting.frames_in_it or 0.0) < _QUEUED or thread >= IDLE:
        return None
    # A stage may take any number of frames at once, as far as is known, and be busy with few.
    can_be = [
        load
        for load in p.loads
        if load.stage in ("preprocess", "inference", "postprocess")
        and (load.busy or load.frames_in_it or 0.0) >= IDLE
    ]
    (only,) = can_be if len(can_be) == 1 else (None,)
    return only.stage if only is not None and (only.busy or 0.0) >= BUSY else None


def _next_limit(p: Pipeline, limit: str | None, setup: Setup) -> tuple[str | None, float | None]:
    """Return the slowest of the other stages, and the rate that it can do at most.

    Parts that nothing measures may be slower still: the rate is an upper bound.
    """
    if limit not in STAGE_NAMES or p.inferred_fps is None:
        return None, None
    capacities = {
        load.stage: load.capacity_fps
        for load in p.loads
        if load.capacity_fps is not None and load.workers and load.stage != limit
    }
    if limit == "thread":
        capacities.pop("read", None)
        capacities.pop("recorder", None)
    if setup.is_live and limit != "read" and p.delivered_fps:
        source = p.delivered_fps
        if limit != "asked":
            source /= setup.every
            if setup.asked_fps is not None and setup.asked_fps < source:
                capacities["asked"] = max(p.inferred_fps, setup.asked_fps)
        capacities["source"] = max(p.inferred_fps, source)
    if not capacities:
        return None, None
    stage = min(capacities, key=lambda name: (capacities[name], name))
    return stage, capacities[stage]
