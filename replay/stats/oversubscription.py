"""Signs that a pipeline gets in its own way: more work at a time than the machine has cores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dgrec.format import MachineLoad, video_entries
from dgrec.replay.stats.pipeline import Load
from dgrec.session import Session

#: Inference is of two kinds if slow frames take this many times as long as fast ones,
_APART = 5.0
#: hardly any are between them (in the middle third, by the logarithm),
_BETWEEN = 0.05
#: and neither kind is an exception.
_EACH = 0.05
#: A frame's processor time, as a multiple of the most that an undisturbed one can take.
_FAR_ABOVE = 3.0

_TRY = (
    "try a single device (--property devices_selected=[0]), fewer threads, or fewer sources at "
    "once, and compare both with dgrec compare"
)


@dataclass(frozen=True)
class Humps:
    """The spread of a session's inference times: fast frames, slow ones, and those between."""

    fast_ms: float
    slow_ms: float
    fast_share: float
    between_share: float
    slow_share: float
    shortest_ms: float

    @property
    def are_two(self) -> bool:
        return (
            self.slow_ms >= _APART * self.fast_ms
            and self.between_share <= _BETWEEN
            and min(self.fast_share, self.slow_share) >= _EACH
        )


#: The range is from the 4th to the 96th percentile, and divided into thirds of its logarithm.
HUMPS_QUERY = """\
WITH times AS (
    SELECT session_id, inference_ms AS ms
    FROM frames JOIN running USING (session_id)
    WHERE frame >= first_running_frame AND inference_ms > 0
), ends AS (
    SELECT session_id, ln(quantile_cont(ms, 0.04)) AS low, ln(quantile_cont(ms, 0.96)) AS high
    FROM times GROUP BY session_id
), thirds AS (
    SELECT session_id, ms, CASE WHEN ln(ms) <= low + (high - low) / 3 THEN 'fast'
                                WHEN ln(ms) >= high - (high - low) / 3 THEN 'slow'
                                ELSE 'between' END AS third
    FROM times JOIN ends USING (session_id)
)
SELECT session_id, median(ms) FILTER (third = 'fast') AS fast_ms,
       median(ms) FILTER (third = 'slow') AS slow_ms,
       count(*) FILTER (third = 'fast') / count(*) AS fast_share,
       count(*) FILTER (third = 'between') / count(*) AS between_share,
       count(*) FILTER (third = 'slow') / count(*) AS slow_share,
       quantile_cont(ms, 0.05) AS shortest_ms
FROM thirds GROUP BY session_id
HAVING count(*) >= 40 AND count(DISTINCT third) > 1 AND bool_or(third = 'slow')"""


def oversubscription(session: Session, loads: Sequence[Load], humps: Humps | None) -> Iterator[str]:
    """Yield a sentence for each sign, the last one with what to try."""
    metadata = session.metadata
    model = _mapping(metadata.get("model"))
    machine = MachineLoad.of(metadata)
    is_local_cpu = model.get("inference_host") == "@local" and str(model.get("device")).endswith(
        "/CPU"
    )
    devices = model.get("devices")
    count = len(devices) if isinstance(devices, list) else 1
    cores = machine.cores
    signs = 0
    if humps is not None and humps.are_two:
        signs += 1
        yield (
            f"Inference has two humps: {humps.fast_share:.0%} of the frames take about "
            f"{humps.fast_ms:.3g} ms, {humps.slow_share:.0%} about {humps.slow_ms:.3g} ms, and "
            f"{humps.between_share:.0%} something between."
        )
    if machine.is_full:
        signs += 1
        yield f"The processor was full: recording used {machine.used_cores:.1f} of {cores:g} cores."
    elif machine.other_work:
        yield f"The machine was {machine.other_work}."
    far = _far_above_work(session, machine, loads, humps) if is_local_cpu else None
    if far is not None and cores:
        spent_ms, peaceful_ms = far
        signs += 1
        yield (
            f"A frame cost {spent_ms:.3g} ms of processor time, where one that nothing gets in the "
            f"way of can take {peaceful_ms:.3g} ms on {cores:g} cores at most: threads wait for "
            "each other without leaving the processor."
        )
    if is_local_cpu and signs and (count > 1 or far is not None):
        on = "" if not cores else f" of {cores:g} cores"
        what = f"{count} devices share one processor{on}" if count > 1 else "Much gets in the way"
        yield f"{what}: {_TRY}."


def _far_above_work(
    session: Session,
    machine: MachineLoad,
    loads: Sequence[Load],
    humps: Humps | None,
) -> tuple[float, float] | None:
    """Return a frame's processor time, and the most that it can take if it is undisturbed.

    None if these are not known, or the first is not far above the second.
    """
    if machine.used_cores is None or humps is None or not len(session):
        return None
    if video_entries(session.metadata):
        return None  # encoding has threads of its own
    means = {load.stage: load.mean_ms for load in loads}
    others = ("read", "preprocess", "postprocess", "recorder")
    peaceful_ms = humps.shortest_ms + sum(means.get(stage) or 0.0 for stage in others)
    peaceful_ms *= machine.cores or 1
    spent_ms = machine.used_cores * (machine.seconds or 0.0) * 1e3 / len(session)
    return (spent_ms, peaceful_ms) if spent_ms > _FAR_ABOVE * peaceful_ms else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
