"""The load of a pipeline's stages, and its limit."""

from __future__ import annotations

from dataclasses import dataclass

#: A stage that is busy for this share of the time is the limit.
BUSY = 0.9
#: A stage that is busy for less than this is not.
IDLE = 0.8
#: A source is not the limit if more than this share of its frames is replaced while waiting.
REPLACED = 0.02


@dataclass(frozen=True)
class Load:
    """The load of one stage of the pipeline; None where the session does not have it."""

    stage: str
    mean_ms: float | None
    #: On average.
    frames_in_it: float | None
    #: How many frames it can take at once; None where that is unknown, or any number.
    workers: int | None
    #: Share of the time, 0 to 1, if none of its time was waiting.
    busy: float | None
    #: Share of the time that it was busy even if some of its time was waiting.
    busy_at_least: float | None
    #: Results a second that it can give at most, by the times measured here.
    capacity_fps: float | None


@dataclass(frozen=True)
class Pipeline:
    """The library's ``pipeline`` and ``stage_load`` for one session, and what they mean."""

    session: str
    session_id: str
    frames: int
    #: Frames before the session ran (`running` in the library), which none of the numbers counts.
    left_out: int
    #: None where the session is too short, or was not timed.
    has_settled: bool | None
    #: Frames of one of the warm-up's windows, of which it takes three.
    window_frames: int | None
    #: None, here and below: the session does not have it.
    seconds: float | None
    fps: float | None
    #: Counting the rows that were lost in front of the disk.
    inferred_fps: float | None
    latency_ms: float | None
    in_flight: float | None
    one_at_a_time_fps: float | None
    #: The rate of frames that reached dgrec, and the least that the source sent.
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
    #: ``writer`` (rows were lost in front of the disk), or None: unknown.
    limit: str | None
    #: The most that the rate can be without the limit, and the stage that can do no more.
    next_fps: float | None
    next_limit: str | None
    findings: tuple[str, ...]
    #: What to know before believing that (`dgrec.replay.stats.caveats`).
    caveats: tuple[str, ...] = ()

    @property
    def delivered(self) -> int:
        """The number of frames that the source gave, as far as the losses are known."""
        return self.frames + (self.skipped or 0) + (self.dropped_queue or 0)

    @property
    def replaced(self) -> float:
        """The share of delivered frames that a newer one replaced."""
        return (self.dropped_queue or 0) / self.delivered

    def load(self, stage: str) -> Load | None:
        return next((load for load in self.loads if load.stage == stage), None)


@dataclass(frozen=True)
class Setup:
    """The setup of the recording, by its metadata."""

    is_live: bool
    is_local: bool
    every: int
    asked_fps: float | None
