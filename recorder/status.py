"""The status line or table of running recordings, and the summary at the end."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from dgrec.console import Console
from dgrec.format import Metadata
from dgrec.paths import VideoKind
from dgrec.rates import rate_text
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.stream import Stream
from dgrec.recorder.video import VideoRecorder
from dgrec.units import counted, size_text

if TYPE_CHECKING:
    from dgrec.recorder.job import Job

__all__ = ["Announcer", "StatusView", "summary"]

#: How often a line with the figures is printed where stderr is not a terminal.
_REPORT_EVERY_S = 60.0


class Announcer:
    """Prints lines with the time before them, for any thread.

    It has a thread of its own, since stderr may block, and a camera must not wait for that.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="dgrec-announcer", daemon=True)

    def announce(self, line: str) -> None:
        self._lines.put(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}")

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._console.say(line)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.put(None)
        self._thread.join()


class StatusView:
    """Shows the figures of recordings on stderr, twice a second, in rich's own thread.

    One recording has a line, and a progress bar if its source has an end; several have a table.
    Where stderr is not a terminal, such as in a log, each recording prints a line a minute.
    """

    def __init__(self, console: Console, jobs: Sequence[Job], announcer: Announcer) -> None:
        self._jobs = jobs
        self._announcer = announcer
        self._ended = threading.Event()
        total = jobs[0].expected
        ending = (BarColumn(bar_width=20), TaskProgressColumn(), TimeRemainingColumn(compact=True))
        self._bar = Progress(
            SpinnerColumn(),
            *(ending if total and len(jobs) == 1 else (TimeElapsedColumn(),)),
            console=console,
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", total=total if len(jobs) == 1 else None)
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._is_shown = console.is_terminal and not console.quiet
        self._is_logged = not console.is_terminal and not console.quiet
        self._reporter = threading.Thread(target=self._report, name="dgrec-report", daemon=True)

    def _render(self) -> RenderableType:
        first = self._jobs[0].stream
        self._bar.update(self._task, completed=first.capture.counts.read)
        figures = Text(_figures(first)) if len(self._jobs) == 1 else _table(self._jobs)
        return Group(figures, self._bar.get_renderable())

    def __enter__(self) -> Self:
        if self._is_shown:
            self._live.start()
        if self._is_logged:
            self._reporter.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_shown:
            self._live.stop()
        self._ended.set()
        if self._is_logged:
            self._reporter.join()

    def _report(self) -> None:
        while not self._ended.wait(_REPORT_EVERY_S):
            for job in self._jobs:
                name = f"{job.source.name}: " if len(self._jobs) > 1 else ""
                if not job.has_ended:
                    self._announcer.announce(name + _figures(job.stream))


def _table(jobs: Sequence[Job]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("source", no_wrap=True)
    for name in ("frames", "found", "fps", "p50", "p95", "skipped", "dropped", "size"):
        table.add_column(name, justify="right")
    table.add_column("state")
    for job in jobs:
        stream, progress = job.stream, job.recorder.progress
        p50, p95 = progress.latency()
        table.add_row(
            Text(job.source.name),
            f"{progress.frames:,}",
            f"{progress.detections:,}",
            rate_text(stream.recent_fps()),
            f"{p50:.0f}",
            f"{p95:.0f}",
            _skipped(stream),
            _dropped(stream),
            size_text(stream.recorder.bytes_written),
            "failed" if job.error else "done" if job.has_ended else "recording",
        )
    return table


def _dropped(stream: Stream) -> str:
    """Return how many frames were lost after the model had started."""
    return f"{max(0, stream.dropped - stream.recorder.dropped_at_start):,}"


def _skipped(stream: Stream) -> str:
    """Return how many frames were left out on purpose."""
    return f"{stream.capture.counts.skipped + stream.recorder.intake.left_out:,}"


def _figures(stream: Stream) -> str:
    progress, moments = stream.recorder.progress, stream.recorder.intake.moment_count
    p50, p95 = progress.latency()
    parts = [
        *([] if moments is None else [counted(moments, "moment")]),
        counted(progress.frames, "frame"),
        counted(progress.detections, "detection"),
        f"{rate_text(stream.recent_fps())} fps",
        f"p50 {p50:.0f} ms",
        f"p95 {p95:.0f} ms",
        f"skipped {_skipped(stream)}",
        f"dropped {_dropped(stream)}",
        size_text(stream.recorder.bytes_written),
    ]
    video = stream.recorder.video
    if video.options.kinds:
        left_out = f", {counted(video.left_out, 'frame')} left out" if video.left_out else ""
        parts.append(f"video {size_text(video.bytes_written)}{left_out}")
    return "  ".join(parts)


def summary(stream: Stream, metadata: Metadata, seconds: float) -> list[str]:
    """Return the lines that a recording ends with: what was recorded, and how to replay it."""
    recorder, capture = stream.recorder, stream.capture
    progress = recorder.progress
    p50, p95 = progress.latency()
    path = _shown(recorder.output)
    files = recorder.files
    size = sum(file.stat().st_size for file in files)
    parts = ""
    if files != [recorder.output]:
        last = f" to {files[-1].name}" if len(files) > 1 else ""
        parts = f"{counted(len(files), 'part')}: {files[0].name}{last}, "
    rate = progress.fps()
    lost = _losses(metadata["totals"])
    lines = [
        f"Recorded {_found(recorder, metadata['totals'])} in {seconds:.1f} s"
        f"{f' ({rate_text(rate)} fps)' if rate is not None else ''}"
        f"{'; ' + ', '.join(lost) if lost else ''}.",
    ]
    if progress.frames:
        recent = len(progress.latencies)
        of = f"last {counted(recent, 'frame')}" if progress.frames > recent else "all frames"
        lines.append(f"Latency p50 {p50:.1f} ms, p95 {p95:.1f} ms ({of}).")
    if progress.gaps:
        lines.append(f"Source lost: {counted(progress.gaps, 'gap')}, {progress.gap_s:.1f} s.")
    if progress.damaged:
        lines.append(
            f"Damaged in the source: {counted(progress.damaged, 'frame')} could not be decoded."
        )
    if capture.end_detail:
        lines.append(f"The source is incomplete: {capture.end_detail}.")
    reason = metadata.get("end_reason")
    if reason == "limit":
        reason = f"ended by {capture.limit}"
    lines += [
        f"Session: {path} ({parts}{size_text(size)}, {reason}).",
        *_video_lines(recorder.video),
        *stream.notes,
        f"Replay it with: dgrec replay {shlex.quote(path)}",
    ]
    return lines


def _found(recorder: SessionWriter, totals: Mapping[str, int]) -> str:
    """Return how much was recorded, and of how much where only moments of alerts are."""
    progress, moments = recorder.progress, recorder.intake.moment_count
    frames, detections = progress.frames, progress.detections
    if moments is not None:
        frames, detections = totals["frames"], totals["detections"]
    found = f"{counted(frames, 'frame')} with {counted(detections, 'detection')}"
    if moments is None:
        return found
    return f"{counted(moments, 'moment')}: {found}, of {counted(progress.frames, 'frame')}"


def _losses(totals: Mapping[str, int]) -> list[str]:
    """Return what was skipped and dropped, apart for the start and for after the last row."""
    texts = []
    for name, words in (("skipped", "skipped on purpose"), ("dropped", "dropped")):
        start, after = totals.get(f"{name}_at_start", 0), totals.get(f"{name}_after", 0)
        before = totals.get(name, 0) - start
        more = [f"{start:,} more while the model started"] if start else []
        more += [f"and {after:,} after the last frame"] if after else []
        if before or more:
            apart = f" ({', '.join(more)})" if more else ""
            texts.append(f"{before:,} {words}{apart}")
    return texts


def _video_lines(video: VideoRecorder) -> list[str]:
    """Return a line for each kind of video that was recorded, and one for what was left out."""
    lines = []
    titles: dict[VideoKind, str] = {"raw": "Video", "annotated": "Annotated video"}
    for kind, title in titles.items():
        files = [file for file in video.files if file.kind == kind and file.path.exists()]
        if not files:
            continue
        frames = sum(file.frames for file in files)
        size = sum(file.path.stat().st_size for file in files)
        names = _shown(files[0].path)
        if len(files) > 1:
            names = f"{counted(len(files), 'file')}, {names} to {files[-1].path.name}"
        lines.append(f"{title}: {names} ({counted(frames, 'frame')}, {size_text(size)}).")
    if video.left_out:
        why = ", ".join(f"{count:,} {state}" for state, count in sorted(video.states.items()))
        left_out = counted(video.left_out, "frame")
        lines.append(f"Left out of the video: {left_out} ({why}); their rows are recorded.")
    return lines


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
