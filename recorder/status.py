"""The status line or table of running recordings, and the summary at the end."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from rich.cells import cell_len
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
from dgrec.format import Metadata, since_start
from dgrec.paths import VideoKind
from dgrec.rates import rate_text
from dgrec.recorder.session_writer import SessionWriter
from dgrec.recorder.stream import Stream
from dgrec.recorder.video import VideoRecorder
from dgrec.units import counted, size_text

if TYPE_CHECKING:
    from dgrec.recorder.job import Job

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
        self._console = console
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
        width = self._console.width
        if len(self._jobs) == 1:
            figures: RenderableType = Text(_figures(first, width), no_wrap=True)
        else:
            figures = _table(self._jobs, width)
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


#: Columns of `_table` in the order in which a narrow terminal gets them.
_COLUMNS = ("source", "frames", "fps", "p95", "dropped", "state", "found", "p50", "skipped", "size")
_LONGEST_NAME = 24


def _table(jobs: Sequence[Job], width: int) -> Table:
    rows = [_values(job) for job in jobs]
    chosen: list[str] = []
    room = width
    for name in _COLUMNS:
        room -= 2 + max(len(name), *(cell_len(row[name]) for row in rows))
        if room >= -2:
            chosen.append(name)
    table = Table(box=None, pad_edge=False)
    shown = [name for name in rows[0] if name in chosen]
    for name in shown:
        is_text = name in ("source", "state")
        table.add_column(name, no_wrap=True, justify="left" if is_text else "right")
    for row in rows:
        table.add_row(*(Text(row[name]) for name in shown))
    return table


def _values(job: Job) -> dict[str, str]:
    """Return the figures of a recording, in the order of the columns of the table."""
    stream, progress = job.stream, job.recorder.progress
    p50, p95 = progress.latency()
    return {
        "source": job.source.name[:_LONGEST_NAME],
        "frames": f"{progress.frames:,}",
        "found": f"{progress.detections:,}",
        "fps": rate_text(stream.recent_fps()),
        "p50": f"{p50:.0f}",
        "p95": f"{p95:.0f}",
        "skipped": _skipped(stream),
        "dropped": _dropped(stream),
        "size": size_text(stream.recorder.bytes_written),
        "state": "failed" if job.error else "done" if job.has_ended else "recording",
    }


def _dropped(stream: Stream) -> str:
    """Return how many frames were lost after the model had started."""
    return f"{max(0, stream.dropped - stream.recorder.dropped_at_start):,}"


def _skipped(stream: Stream) -> str:
    """Return how many frames were left out on purpose."""
    return f"{stream.capture.counts.skipped + stream.recorder.intake.left_out:,}"


def _figures(stream: Stream, width: int | None = None) -> str:
    """Return the figures of a recording in one line; only the most important in a narrow one."""
    progress, moments = stream.recorder.progress, stream.recorder.intake.moment_count
    p50, p95 = progress.latency()
    #: Each with its rank.
    parts = [
        *([] if moments is None else [(1, counted(moments, "moment"))]),
        (0, counted(progress.frames, "frame")),
        (4, counted(progress.detections, "detection")),
        (1, f"{rate_text(stream.recent_fps())} fps"),
        (5, f"p50 {p50:.0f} ms"),
        (2, f"p95 {p95:.0f} ms"),
        (7, f"skipped {_skipped(stream)}"),
        (3, f"dropped {_dropped(stream)}"),
        (6, size_text(stream.recorder.bytes_written)),
    ]
    video = stream.recorder.video
    if video.options.kinds:
        left_out = f", {counted(video.left_out, 'frame')} left out" if video.left_out else ""
        parts.append((8, f"video {size_text(video.bytes_written)}{left_out}"))
    for least in range(len(parts), 0, -1):
        line = "  ".join(text for rank, text in parts if rank < least)
        if width is None or len(line) <= width:
            break
    return line


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


def facts(stream: Stream, metadata: Metadata, seconds: float) -> dict[str, Any]:
    """Return what a recording ended with, for ``--json``: the names are those of `dgrec list`.

    ``bytes`` are those of the session without its videos.
    """
    recorder = stream.recorder
    progress, totals = recorder.progress, since_start(metadata["totals"])
    videos = [file.path for file in recorder.video.files if file.path.exists()]
    return {
        "path": str(recorder.output),
        "source": metadata["source"]["given"],
        **dict(zip(("frames", "detections"), _recorded(recorder, totals), strict=True)),
        "seconds": seconds,
        "fps": progress.fps(),
        "skipped": totals.get("skipped", 0),
        "dropped": totals.get("dropped", 0),
        "end_reason": metadata.get("end_reason"),
        "files": [str(file) for file in (*recorder.files, *videos)],
        "videos": [str(path) for path in videos],
        "bytes": sum(file.stat().st_size for file in recorder.files),
    }


def _found(recorder: SessionWriter, totals: Mapping[str, int]) -> str:
    """Return how much was recorded, and out of how much if only moments of alerts are."""
    moments = recorder.intake.moment_count
    frames, detections = _recorded(recorder, totals)
    found = f"{counted(frames, 'frame')} with {counted(detections, 'detection')}"
    if moments is None:
        return found
    return f"{counted(moments, 'moment')}: {found}, of {counted(recorder.progress.frames, 'frame')}"


def _recorded(recorder: SessionWriter, totals: Mapping[str, int]) -> tuple[int, int]:
    """Return how many frames and detections there are: fewer than came if only moments are kept."""
    if recorder.intake.moment_count is None:
        return recorder.progress.frames, recorder.progress.detections
    return totals["frames"], totals["detections"]


def _losses(totals: Mapping[str, int]) -> list[str]:
    """Return what was skipped and dropped, counted apart at the start and after the last row."""
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
