"""What ``dgrec record`` does, once its options are understood."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from dgrec import metadata as metadata_module
from dgrec.clock import Clock
from dgrec.errors import OutputError, StorageError
from dgrec.journal import is_being_written
from dgrec.metadata import Metadata
from dgrec.parts import numbered_files, parts_of
from dgrec.schema import JOURNAL_SUFFIX
from recorder.capture import Capture, Decimator
from recorder.config import named_sources
from recorder.display import OverlayWindow
from recorder.frames import Footage, FrameSource
from recorder.live import LiveView, size_text, summary
from recorder.live_source import LiveSource
from recorder.model import LoadedModel, ModelRequest, load_model, parse_property
from recorder.parts import Splitting
from recorder.publisher import Publisher
from recorder.recording import Recording, journal_path
from recorder.recovery import left_behind, recover
from recorder.sealer import Retention
from recorder.signals import StopSignals
from recorder.source import Source, VideoReader, parse_source

__all__ = ["run_record", "run_recover"]

_DEFAULT_FOLDER = Path("recordings")

_RECORDED_OPTIONS = (
    "max_frames",
    "duration",
    "fps",
    "every",
    "reconnect_for",
    "stall_timeout",
    "masks",
    "durability",
    "policy",
    "split_every",
    "split_size",
    "keep_last",
    "keep_total",
    "min_free",
)


#: Exit code of a recording that ended for want of room, and was sealed (``--min-free``).
_ENDED_FOR_ROOM = 5


def run_record(options: dict[str, Any]) -> int:
    """Record one session as the options of ``dgrec record`` say; return the exit code.

    Raises:
        DgrecError: Something in the way; nothing that was recorded is lost.
    """
    console = Console(stderr=True, quiet=options["quiet"], highlight=False)
    source = parse_source(options["source"], named_sources(Path.cwd()))
    splitting = _splitting(options)
    output = _output_path(options["output"], source, options["overwrite"], split=bool(splitting))
    _check_room(output.parent, options["min_free"])
    _say_left_behind(console, output.parent)
    request = _model_request(options)
    reader = VideoReader(source, stall_timeout_s=options["stall_timeout"])
    with ExitStack() as stack:
        stack.callback(reader.release)
        signals = stack.enter_context(StopSignals())
        if request.is_bundled:
            console.print("No model named: using the bundled face detector on the CPU.")
        loaded = load_model(request)
        stack.enter_context(loaded.model)  # let go of its worker before `signals` ends it
        clock = Clock()
        capture = _capture(reader, source, clock, options)
        stack.callback(capture.release)  # PySDK does it too, unless its loop was left early
        metadata = _metadata(source, reader, loaded, output, clock, options)
        watchers = []
        publisher = window = None
        if options["publish"]:
            publisher = Publisher(options["publish"])
            stack.callback(publisher.close)
            watchers.append(lambda row, _: publisher.publish(row))
        if options["display"]:
            window = OverlayWindow(f"dgrec: {source.name}", capture.stop)
            stack.callback(window.close)
            watchers.append(window.show)
        _make_default_folder(output)
        recording = Recording(
            loaded.model,
            capture,
            output,
            metadata,
            clock=clock,
            masks=options["masks"],
            durability=options["durability"],
            policy=options["policy"] or ("block" if source.has_end else "drop-oldest"),
            watchers=tuple(watchers),
            replace=options["overwrite"],
            splitting=splitting,
            min_free=options["min_free"],
        )
        metadata = _run(recording, console, _expected_frames(reader, options), signals)
        for part in (publisher, window):
            if part is not None and part.failure:
                console.print(part.failure, markup=False)
    if metadata["end_reason"] != "disk_full":
        return 0
    left = size_text(options["min_free"])
    console.print(f"Ended early: sealing it leaves hardly more than {left} free (--min-free).")
    return _ENDED_FOR_ROOM


def run_recover(journal: Path, output: Path | None, keep: bool) -> int:
    """Recover one journal, say on stderr what was kept and lost, and return the exit code."""
    console = Console(stderr=True, highlight=False)
    result = recover(journal, output, keep=keep)
    lines = [
        f"{journal}: kept {result.frames:,} frames with {result.detections:,} detections in "
        f"{result.output}."
    ]
    if not result.ended:
        lines.append(
            "The recorder was cut off: what it still had in memory (less than a second) is lost."
        )
    lines += [f"Lost: {line}." for line in result.damage]
    if not result.journal_removed:
        lines.append(f"The journal was left where it is: {journal}")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    return 0 if result.complete else 3


def _say_left_behind(console: Console, folder: Path) -> None:
    for journal in left_behind(folder):
        console.print(
            f"{journal} was left by a recording that was cut off: dgrec recover {journal}",
            markup=False,
            soft_wrap=True,
        )


def _run(
    recording: Recording, console: Console, expected: int | None, signals: StopSignals
) -> Metadata:
    signals.stop = recording.capture.stop
    signals.abandon = lambda: _say_left(recording)
    started = time.monotonic()
    with LiveView(console, recording, expected):
        metadata = recording.run()
    for line in summary(recording, metadata, time.monotonic() - started):
        console.print(line, markup=False, soft_wrap=True)
    return metadata


def _say_left(recording: Recording) -> None:
    # os.write: the console's lock may be held by whatever hangs.
    os.write(2, f"\nLeft as it is: {recording.journal}\n".encode())


def _splitting(options: dict[str, Any]) -> Splitting:
    return Splitting(
        options["split_every"],
        options["split_size"],
        Retention(options["keep_last"], options["keep_total"]),
    )


def _model_request(options: dict[str, Any]) -> ModelRequest:
    return ModelRequest(
        model_name=options["model_name"],
        zoo_url=options["zoo_url"],
        model_url=options["model_url"],
        inference_host_address=options["inference_host_address"],
        registry=options["model_registry"],
        alias=options["alias"],
        properties=dict(map(parse_property, options["properties"])),
    )


def _capture(reader: VideoReader, source: Source, clock: Clock, options: dict[str, Any]) -> Capture:
    frames: FrameSource
    if source.has_end:
        frames = Footage(reader, source, clock, loop=options["loop"])
    else:
        frames = LiveSource(
            reader,
            source,
            clock,
            reopen=lambda: VideoReader(source, stall_timeout_s=options["stall_timeout"]),
            reconnect_for_s=options["reconnect_for"],
            stall_timeout_s=options["stall_timeout"],
            max_duration_s=options["duration"],
        )
    return Capture(
        frames,
        decimator=Decimator(options["fps"], options["every"] or 1),
        max_frames=options["max_frames"],
        max_duration_s=options["duration"],
    )


def _expected_frames(reader: VideoReader, options: dict[str, Any]) -> int | None:
    """Return how many source frames will be read, for the bar; None if nobody knows."""
    limits = []
    if reader.frame_count and not options["loop"]:
        limits.append(reader.frame_count)
    if options["max_frames"] and not options["fps"]:
        limits.append(options["max_frames"] * (options["every"] or 1))
    if options["duration"] and reader.fps:
        limits.append(int(options["duration"] * reader.fps))
    return min(limits) if limits else None


def _metadata(
    source: Source,
    reader: VideoReader,
    loaded: LoadedModel,
    output: Path,
    clock: Clock,
    options: dict[str, Any],
) -> Metadata:
    metadata = metadata_module.new(output.stem, clock.now_ns())
    width, height = reader.size
    metadata["source"] = {
        **source.describe(output.parent),
        "width": width,
        "height": height,
        "fps": reader.fps,
        "frames": reader.frame_count,
        "loop": options["loop"],
    }
    metadata["model"] = loaded.description
    metadata["overlay"] = loaded.overlay
    metadata["options"] = {
        name: options[name] for name in _RECORDED_OPTIONS if options[name] is not None
    }
    return metadata


def _output_path(
    output: Path | None, source: Source, overwrite: bool, *, split: bool = False
) -> Path:
    """Return where the session goes, having checked that it can go there.

    Raises:
        OutputError: The name is taken, or the folder is not there or cannot be written.
    """
    if output is None:
        return _free_name(_DEFAULT_FOLDER, f"{source.name}-{datetime.now():%Y%m%d-%H%M%S}")
    if output.is_dir():
        raise OutputError(f"{output}: is a folder; give a file name")
    if not output.parent.is_dir():
        raise OutputError(f"{output.parent}: no such folder; make it first")
    if not os.access(output.parent, os.W_OK):
        raise OutputError(f"{output.parent}: cannot be written: permission denied")
    if output.exists() and not overwrite:
        raise OutputError(f"{output}: exists already; choose another name or say --overwrite")
    parts = parts_of(output)
    for journal in (journal_path(output), *(p for p in parts if p.suffix == JOURNAL_SUFFIX)):
        if journal.exists():
            state = (
                "is being recorded now"
                if is_being_written(journal)
                else f"was left by a recording that was cut off (dgrec recover {journal})"
            )
            raise OutputError(f"{journal}: {state}; choose another name")
    if parts and not overwrite:
        raise OutputError(
            f"{parts[0]}: is a part of an older recording; choose another name or say --overwrite"
        )
    strangers = [path for _, path in numbered_files(output) if path not in parts] if split else []
    if strangers:
        raise OutputError(
            f"{strangers[0]}: is called like a part, but is none; choose another name"
        )
    return output


def _make_default_folder(output: Path) -> None:
    """Make ``recordings`` once something is going to be in it."""
    if output.parent == _DEFAULT_FOLDER:
        try:
            _DEFAULT_FOLDER.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{_DEFAULT_FOLDER}: cannot be made: {error.strerror}") from None


def _check_room(folder: Path, min_free: int | None) -> None:
    if min_free is None:
        return
    free = shutil.disk_usage(folder if folder.exists() else Path()).free
    if free < min_free:
        raise StorageError(
            f"{folder}: has {size_text(free)} free, less than --min-free {size_text(min_free)}",
            is_full=True,
        )


def _free_name(folder: Path, stem: str) -> Path:
    """Return a session name that is not taken: two recordings may start in one second."""
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        path = folder / f"{stem}{suffix}.parquet"
        if not (path.exists() or journal_path(path).exists() or numbered_files(path)):
            return path
    raise OutputError(f"{folder}: no free name for {stem}")
