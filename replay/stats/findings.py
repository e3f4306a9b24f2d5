"""Sentences on what limited a recording, with its own numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from dgrec.rates import rate_text
from dgrec.replay.output import Destination, Section, json_text, write_report
from dgrec.replay.stats.pipeline import BUSY, IDLE, REPLACED, Load, Pipeline, Setup
from dgrec.replay.stats.summary import unsettled
from dgrec.units import counted, ms_text

#: Two bounds that are no further apart than this are shown as one number.
_NEAR = 0.05
#: Stages whose times may contain waiting for their turn.
_WITH_WAITING = ("preprocess", "postprocess")
#: The rate of a shorter session says nothing, even with several frames.
_SHORTEST_S = 1e-3

STAGE_NAMES = {
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


def findings(p: Pipeline, setup: Setup) -> Iterator[str]:
    frames = counted(p.frames, "frame")
    if p.seconds is None:
        yield f"{frames}; the rate is unknown: captured_at or completed_at is missing."
        return
    if p.frames < 2 or p.seconds < _SHORTEST_S:
        yield f"{frames} in {ms_text(p.seconds * 1e3)}: too little for a rate."
        return
    if p.fps is None:
        yield "From moments of a recording, its rate and what limits it is unknown."
    else:
        yield _fps(p.fps) + _headline(p, setup)
    if p.latency_ms is None:
        yield "How many frames were on their way at a time is unknown: latency_ms is missing."
    elif p.fps is not None and p.in_flight is not None:
        yield _law(p, p.fps, p.latency_ms, p.in_flight)
    if p.latency_ms:
        yield _latency(p, p.latency_ms)
    yield from _losses(p)
    if p.next_limit is not None:
        yield (
            f"Without that it would be at most {_fps(p.next_fps)}, by the times measured here: "
            f"{STAGE_NAMES[p.next_limit]} can do no more."
        )
    yield _left_out(p)


def _losses(p: Pipeline) -> Iterator[str]:
    if p.dropped_queue and p.delivered_fps is not None:
        was = "was" if p.dropped_queue == 1 else "were"
        yield (
            f"{p.dropped_queue:,} of {counted(p.delivered, 'frame')} {was} replaced by a newer one "
            f"while they waited: the source delivers {_fps(p.delivered_fps)}, more than is taken."
        )
    if p.dropped_camera:
        sent = "" if p.sent_fps is None else f": it sends at least {_fps(p.sent_fps)}"
        was = "was" if p.dropped_camera == 1 else "were"
        lost = counted(p.dropped_camera, "frame")
        yield f"At least {lost} of the source {was} lost on the way{sent}."
    if p.dropped_at_start:
        lost = counted(p.dropped_at_start, "frame", "was", "were")
        yield f"{lost} lost while the model started."


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


def _headline(p: Pipeline, setup: Setup) -> str:
    """Return what limited the rate, as a text to put after the rate itself."""
    inference = p.load("inference")
    mean_ms = None if inference is None else inference.mean_ms
    start = ": "
    if mean_ms and p.limit != "inference":
        start = f" although inference takes {ms_text(mean_ms)}: "
    if p.limit is None:
        return start + _cannot_tell(p, setup)
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
    read, recorder = p.load("read"), p.load("recorder")
    if p.limit == "thread":
        assert read is not None
        assert recorder is not None
        return start + (
            f"reading the source ({ms_text(read.mean_ms)} a frame) and {STAGE_NAMES['recorder']} "
            f"({ms_text(recorder.mean_ms)}) take turns, and together are busy "
            f"{min(1.0, (read.busy or 0) + (recorder.busy or 0)):.0%} of the time: they are the "
            "limit."
        )
    if p.limit == "read" and setup.is_live:
        return start + (
            f"the source delivers {_fps(p.delivered_fps)}, and all of it is taken: the camera is "
            "the limit."
        )
    load = p.load(p.limit)
    assert load is not None
    workers = f" on {load.workers} devices" if (load.workers or 1) > 1 else ""
    times = " (waiting for its turn included)" if _has_waited(load) else ""
    return start + (
        f"{STAGE_NAMES[p.limit]} takes {ms_text(load.mean_ms)} a frame{times} and is busy "
        f"{_busy(load)} of the time{workers}: it is the limit."
    )


def _cannot_tell(p: Pipeline, setup: Setup) -> str:
    """Return a text for a limit that is unknown."""
    inference = p.load("inference")
    if p.fps is not None and setup.is_live and p.replaced > REPLACED:
        begin = "what limits it is unknown, but it is not the source."
    else:
        begin = "what limits it is unknown."
    # The whole pipeline counts as a part, too: whatever is not timed is in its latency.
    if not setup.is_live and p.in_flight is not None and p.in_flight < IDLE:
        return (
            f"the pipeline waits for frames. At least {1 - p.in_flight:.0%} of the time none was "
            "on its way."
        )
    if inference is None or inference.mean_ms is None:
        return "the runtime reported no times of inference, so what limits it is unknown."
    unsure = [load for load in p.loads if load.stage != "waiting" and _may_be_busy(load)]
    if unsure:
        most = max(unsure, key=lambda load: load.frames_in_it or 0.0)
        if most.stage not in _WITH_WAITING:
            return (
                f"{begin} {STAGE_NAMES[most.stage].capitalize()} may: it was busy {_busy(most)} of "
                "the time, and in so short a recording that is as much as can be known."
            )
        return (
            f"{begin} {STAGE_NAMES[most.stage].capitalize()} may: a frame takes "
            f"{ms_text(most.mean_ms)} there, but how much of that is waiting for its turn is not "
            "known."
        )
    timed = [load for load in p.loads if load.busy is not None]
    if not timed:  # another tool's file does not say what the writer lost
        return f"{begin} This file does not say how busy its parts were."
    most = max(timed, key=lambda load: load.busy or 0.0)
    where = "resizing before inference, or a busy processor"
    if not setup.is_local:
        where = "resizing before inference, a network, an AI server, or a busy processor"
    return (
        f"{begin} No part that is timed was busy all the time "
        f"({STAGE_NAMES[most.stage]} most, {_busy(most)}); the rest may go where nothing measures "
        f"it, such as {where}."
    )


def _may_be_busy(load: Load) -> bool:
    """Return whether a part may have been busy all the time, by its own times."""
    if load.stage in _WITH_WAITING:
        return (load.frames_in_it or 0.0) >= IDLE
    return (load.busy_at_least or 0.0) < BUSY <= (load.busy or 0.0)


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
        return f"The mean latency is {ms_text(latency_ms)}, which says nothing about the rate."
    return (
        f"fps is not 1/latency, which is {_fps(p.one_at_a_time_fps)}: a frame takes "
        f"{ms_text(latency_ms)} from capture to result, and {in_flight:.1f} are on their way at a "
        f"time (Little's law: {rate_text(fps)}/s x {latency_ms / 1e3:.3g} s)."
    )


def _latency(p: Pipeline, latency_ms: float) -> str:
    parts = [
        (load.mean_ms, load.stage)
        for load in p.loads
        if load.mean_ms is not None and load.stage not in ("read", "recorder")
    ]
    if not parts:
        return f"Of the {ms_text(latency_ms)} nothing is known: the runtime reported no times."
    shares = ", ".join(
        f"{STAGE_NAMES[stage]} {ms_text(mean)} ({mean / latency_ms:.0%})"
        for mean, stage in sorted(parts, key=lambda part: (-part[0], part[1]))
    )
    return f"Where the {ms_text(latency_ms)} go: {shares}."


def _fps(value: float | None) -> str:
    return f"{rate_text(value)} fps"


# --- writing -----------------------------------------------------------------------------------


def write_pipelines(pipelines: Sequence[Pipeline], form: str, destination: Destination) -> None:
    """Write pipelines as ``table``, ``markdown`` or ``json``."""
    if form == "json":
        destination.write(json_text([asdict(p) for p in pipelines], indent=2) + "\n")
        return
    for number, pipeline in enumerate(pipelines):
        if number:
            destination.write("\n")
        if len(pipelines) > 1 or form == "markdown":
            title = f"# {pipeline.session}\n\n" if form == "markdown" else f"{pipeline.session}\n"
            destination.write(title)
        findings = (*pipeline.caveats, *pipeline.findings)
        if form == "markdown":
            for finding in findings:
                destination.write(f"- {finding}\n")
            destination.write("\n")
            findings = ()
        write_report([load_section(pipeline)], (), form, destination, conclusion=findings)


def load_section(p: Pipeline) -> Section:
    """Return how busy each stage was, as a table."""
    return Section(
        "How busy each stage was",
        ("stage", "mean ms", "frames in it", "workers", "busy", "at most fps"),
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
