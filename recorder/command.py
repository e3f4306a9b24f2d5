"""Runs ``dgrec record`` and ``dgrec recover``."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path

from dgrec.config import config_file
from dgrec.console import Console
from dgrec.errors import ConfigError, DgrecError, OutputError, SourceError
from dgrec.paths import session_stem
from dgrec.recorder.groups import check_apart, make_group
from dgrec.recorder.job import Job, Plan, RecordRequest, make_plan, prepare
from dgrec.recorder.model import load_model
from dgrec.recorder.native_messages import TENSORFLOW_LITE, left_out
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.outputs import without_clips
from dgrec.recorder.recovery import Recovery, left_behind, recover
from dgrec.recorder.signals import StopSignals
from dgrec.recorder.sources import SourceReader, named_sources, open_patiently, open_source
from dgrec.recorder.status import Announcer, StatusView, facts, summary
from dgrec.recorder.viewer import Viewer, viewing
from dgrec.session import session_file
from dgrec.stand_in import Replay
from dgrec.terminal import detail, echo, is_verbose, say_written
from dgrec.terminal import line as printable
from dgrec.units import counted, size_text

#: Exit code of a recording that was ended and sealed before the disk was full (``--min-free``).
_DISK_LOW = 5


def run_record(request: RecordRequest) -> int:
    """Record one session for each source.

    Returns:
        The exit code. With several sources, the error of one is printed, the others go on, and the
        highest exit code is returned.

    Raises:
        DgrecError: Nothing can be recorded, or the only source failed. Nothing that was recorded is
            lost.
    """
    console = Console(stderr=True, quiet=request.quiet)
    named = named_sources(Path.cwd())

    def report_journal(journal: Path, result: Recovery | DgrecError) -> None:
        lines = [str(result)] if isinstance(result, DgrecError) else _recovered(journal, result)
        for line in lines:
            console.say(line)

    config = config_file(Path.cwd())
    if config.exists():
        detail(f"{config}: {counted(len(named), 'named source')}")
    plans = [make_plan(text, named, request, report_journal) for text in request.sources]
    check_apart(plans)
    flag = next(iter(request.options.video_flags), None)
    if flag is not None and not any(plan.has_video for plan in plans):
        which = " or ".join(plan.source.given for plan in plans)
        raise ConfigError(f"{flag}: no video is recorded of {which}; add --video raw")
    for folder in {plan.output.parent for plan in plans}:
        for journal in left_behind(folder):
            why = "was left by a recording that was cut off"
            console.say(f"{journal} {why}: dgrec recover {journal}")
    with ExitStack() as stack:
        opened, failed = _open(plans, request.options.stall_timeout, stack, console)
        signals = stack.enter_context(StopSignals())
        if request.model.is_bundled:
            console.say("No model named: using the bundled face detector on the CPU.")
        # Each source has a model with its own settings and pipeline. All are loaded and prepared
        # before there is a journal: until then errors and Ctrl-C leave nothing behind.
        models = [load_model(request.model) for _ in opened]
        for (plan, _), loaded in zip(opened, models, strict=True):
            device = getattr(loaded.model, "device_type", "")
            detail(f"{plan.source.given}: with a model on {device} to {plan.output}")
        for note in models[0].notes:
            console.say(note)
        for loaded in models:
            stack.enter_context(loaded.model)
        announcer = Announcer(console)
        # Each source has analyzers of its own, too: a tracker follows the objects of one source.
        analyzers = [request.analyzers.make(loaded.labels) for loaded in models]
        group = make_group([plan for plan, _ in opened], request)
        say = announcer.announce
        prepared = [
            prepare(plan, reader, loaded, request, stack, say, analyzers=attached, group=group)
            for (plan, reader), loaded, attached in zip(opened, models, analyzers, strict=True)
        ]
        jobs = _begin(prepared)
        signals.stop = lambda: _stop(jobs)
        signals.hurry = lambda: _hurry(jobs)
        signals.abandon = lambda: _say_left(jobs)
        if _is_apart() and "TFLITE" in str(getattr(models[0].model, "device_type", "")):
            stack.enter_context(left_out(TENSORFLOW_LITE))
        page = _viewing(plans, jobs, request, announcer)
        with announcer, StatusView(console, jobs, announcer), page:
            _run(jobs)
        for job in jobs:
            try:
                _report(job, console, alone=len(plans) == 1)
            finally:
                _cut_clips(job, console, signals)
            if request.as_json and job.metadata is not None:
                written = facts(job.stream, job.metadata, job.seconds)
                say_written([], as_json=True, said=job.stream.notes, **written)
    codes = [_exit_code(job, console, request.options.min_free) for job in jobs]
    return max([*codes, *(1 for _ in failed)])


def _begin(prepared: Sequence[Callable[[], Job]]) -> list[Job]:
    """Begin all recordings, or none."""
    jobs: list[Job] = []
    try:
        for begin in prepared:
            jobs.append(begin())
    except BaseException:
        for job in jobs:
            with suppress(OSError, DgrecError):
                job.recorder.journal.unlink()
                job.recorder.close()  # without its journal nothing is sealed
        raise
    return jobs


def _viewing(
    plans: Sequence[Plan], jobs: Sequence[Job], request: RecordRequest, announcer: Announcer
) -> AbstractContextManager[Viewer | None]:
    folders = list(dict.fromkeys(plan.output.parent for plan in plans))
    first = session_stem(plans[0].output) if len(plans) == 1 else ""
    frames = [job.frames for job in jobs if job.frames is not None]
    return viewing(folders, first, announcer.announce, frames, is_on=request.view)


def _is_apart() -> bool:
    """Return whether lines may be left out of descriptor 2: only libraries write to it."""
    try:
        return not is_verbose() and sys.stderr.fileno() != 2
    except (OSError, ValueError):  # not a file
        return not is_verbose()


def _open(
    plans: Sequence[Plan], stall_timeout_s: float, stack: ExitStack, console: Console
) -> tuple[list[tuple[Plan, SourceReader]], list[SourceError]]:
    """Open the sources; if some of them can be opened, report the others and leave them out."""
    opened, failed = [], []
    for plan in plans:
        open_ = partial(open_source, plan.source, stall_timeout_s=stall_timeout_s)
        try:
            reader = open_patiently(plan.source, open_, console.say)
        except SourceError as error:
            failed.append(error)
            continue
        stack.callback(reader.release)
        opened.append((plan, reader))
    if not opened:
        raise failed[0] if len(failed) == 1 else SourceError("; ".join(map(str, failed)))
    for failure in failed:
        _say_error(failure)
    return opened, failed


def _run(jobs: Sequence[Job]) -> None:
    windows = [
        queue for job in jobs for queue in job.recorder.outputs if queue.output.needs_main_thread
    ]
    if len(jobs) == 1 and not windows:
        jobs[0].run()
        return
    threads = [
        threading.Thread(target=job.run, name=f"dgrec-{job.source.name}", daemon=True)
        for job in jobs
    ]
    for thread in threads:
        thread.start()
    for window in windows:
        window.run()
    for thread in threads:
        thread.join()


def _stop(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.stream.stop()


def _hurry(jobs: Sequence[Job]) -> bool:
    """End late deliveries to targets; return whether any were going on."""
    went_on = [job.recorder.targets.hurry() for job in jobs]
    return any(went_on)


def _say_left(jobs: Sequence[Job]) -> None:
    # os.write: the thread that hangs may hold the console's lock.
    for job in jobs:
        if not job.has_ended:
            text = printable(f"Left as it is: {job.recorder.journal}")
            os.write(sys.stderr.fileno(), f"\n{text}\n".encode())


def _report(job: Job, console: Console, *, alone: bool) -> None:
    """Print the outcome of a recording; raise the error of the only one."""
    for queue in job.recorder.outputs:
        if queue.note:
            console.say(queue.note)
    if job.error is not None:
        if alone:
            raise job.error
        _say_error(job.error)
        return
    assert job.metadata is not None
    if not alone:
        console.say(f"{job.source.given}:")
    for line in summary(job.stream, job.metadata, job.seconds):
        console.say(line if alone else f"  {line}")


def _cut_clips(job: Job, console: Console, signals: StopSignals) -> None:
    """Cut the clips of alerts that are left, unless the disk has failed; say what remains."""
    if job.clips is None:
        return
    if not isinstance(job.error, OutputError):
        signals.begin_again(job.clips.abandon)
        job.clips.cut_rest(console.say)
    if left := job.clips.left():
        console.say(without_clips(job.clips.path, left))


def _say_error(error: DgrecError) -> None:
    # Not on the console of the recording: --quiet does not silence errors.
    echo(f"Error: {error}", err=True)


def _exit_code(job: Job, console: Console, min_free: int | None) -> int:
    if job.error is not None:
        return int(getattr(job.error, "exit_code", 1))
    if job.metadata is None or job.metadata["end_reason"] != "disk_full" or min_free is None:
        return 0
    left = size_text(min_free)
    console.say(f"Ended early: sealing it leaves hardly more than {left} free (--min-free).")
    return _DISK_LOW


def run_run(
    command: Sequence[str],
    folder: Path | None,
    options: RecordingOptions,
    replay: Replay | None,
    *,
    quiet: bool,
    view: bool = False,
) -> int:
    """Run a program, say on stderr what was recorded of it, and return its exit code."""
    from dgrec.recorder.program import run_program

    console = Console(stderr=True, quiet=quiet)
    with viewing([folder or Path()], "", console.say, is_on=view) as viewer:
        address = "" if viewer is None else viewer.listen()
        code, found = run_program(command, folder, options, replay, view=address)
    for each in found:
        if each.error is not None:
            _say_error(each.error)
        elif each.recovery is not None:
            for line in _recovered(each.journal, each.recovery):
                console.say(line)
        else:
            frames, detections = (
                counted(number, noun)
                for number, noun in ((each.frames, "frame"), (each.detections, "detection"))
            )
            console.say(f"{each.path}: {frames}, {detections}.")
    if not found and folder is not None:
        console.say(f"Nothing was recorded: no PySDK model ran in {command[0]}.")
    return code


def run_recover(
    journals: Sequence[Path], output: Path | None, keep: bool, *, as_json: bool = False
) -> int:
    """Recover journals, report on stderr what was kept and lost, and return the exit code.

    Raises:
        DgrecError: The only one cannot be recovered. With several, its error is printed, the others
            are recovered, and the highest exit code is returned.
    """
    codes = []
    for journal in journals:
        try:
            codes.append(_run_recover(journal, output, keep, as_json=as_json))
        except DgrecError as error:
            if len(journals) == 1:
                raise
            _say_error(error)
            codes.append(error.exit_code)
    return max(codes)


def _run_recover(journal: Path, output: Path | None, keep: bool, *, as_json: bool) -> int:
    console = Console(stderr=True)
    journal = session_file(journal)
    result = recover(journal, output, keep=keep)
    for line in _recovered(journal, result):
        console.say(line)
    if result.without_clip:
        console.say(without_clips(result.recording, result.without_clip))
    if as_json:
        say_written(
            [],
            as_json=True,
            path=result.output,
            journal=journal,
            frames=result.frames,
            detections=result.detections,
            ended=result.ended,
            lost=result.damage,
            journal_removed=result.journal_removed,
            said=result.videos,
        )
    return 0 if result.complete else 3


def _recovered(journal: Path, result: Recovery) -> list[str]:
    """Return what was kept and lost of a journal, a line each."""
    lines = [
        f"{journal}: kept {counted(result.frames, 'frame')} with "
        f"{counted(result.detections, 'detection')} in {result.output}."
    ]
    if not result.ended:
        lines.append(
            "The recorder was cut off: what it still had in memory (less than a second) is lost."
        )
    lines += [f"Video {line}." for line in result.videos]
    if result.videos and result.output.absolute().parent != journal.absolute().parent:
        lines.append(f"The videos stay in {journal.parent}; put them beside {result.output}.")
    lines += [f"Lost: {line}." for line in result.damage]
    if not result.journal_removed:
        lines.append(f"The journal was left where it is: {journal}")
    return lines
