"""``dgrec run``: starts a program, records what its models yield, and replays recordings to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from errno import ENOEXEC
from pathlib import Path
from types import FrameType

from dgrec.errors import ConfigError, DgrecError, NotASessionError
from dgrec.files import output_errors
from dgrec.format import uuid7
from dgrec.recorder.options import RecordingOptions
from dgrec.recorder.program import site
from dgrec.recorder.program.unchanged_program import FOLDER, GROUP, OPTIONS, VIEW
from dgrec.recorder.recovery import Recovery, left_behind, recover
from dgrec.session import open_session
from dgrec.stand_in import REPLAY, Replay, Replayed


@dataclass(frozen=True)
class Recorded:
    """A session that a program left, or the journal of one that could not be sealed."""

    path: Path
    frames: int
    detections: int
    #: Set if the program was killed.
    recovery: Recovery | None = None
    journal: Path = Path()
    error: DgrecError | None = None


def run_program(
    command: Sequence[str],
    folder: Path | None,
    options: RecordingOptions,
    replay: Replay | None = None,
    *,
    view: str = "",
) -> tuple[int, list[Recorded]]:
    """Run a program to its end; return its exit code, and the sessions of its models.

    Args:
        command: The program and its arguments, such as ``python app.py``.
        folder: Where sessions go; it is made if it is not there. None: nothing is recorded.
        options: How they are recorded.
        replay: What takes the place of the program's models and cameras.
        view: Where sessions offer their newest frames; "": nowhere.

    Raises:
        ConfigError: There is no such program, or it cannot be started.
        OutputError: The folder cannot be made.
        SessionError: A session that is to be replayed cannot be read.
    """
    if replay is not None:
        Replayed(replay)  # which complains in one line
    program = shutil.which(command[0])
    if program is None:
        raise ConfigError(_why_not(command[0]))
    before: set[Path] = set()
    group = str(uuid7())
    environment = _environment()
    if folder is not None:
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        before = set(folder.iterdir())
        environment |= _recording(folder, options, group) | {VIEW: view}
    if replay is not None:
        environment |= replay.environment()
    try:
        started = subprocess.Popen([program, *command[1:]], env=environment)
    except OSError as error:
        hint = " (a script needs a first line like #!/bin/sh)" if error.errno == ENOEXEC else ""
        problem = error.strerror or error
        raise ConfigError(f"{command[0]}: cannot be started: {problem}{hint}") from None
    with _signals_passed_on(started):
        code = started.wait()
    found = [] if folder is None else _recorded(folder, before, group)
    return (code if code >= 0 else 128 - code), found


def _why_not(name: str) -> str:
    path = Path(name)
    if not name:
        return "'': no such program"
    is_here = path.is_file()
    if is_here and path.suffix == ".py":  # named as for Python, or for a shell
        return f"{name}: is not a program; for a Python program: dgrec run -- python {name}"
    if not is_here or "/" not in name:
        return f"{name}: no such program"
    return f"{name}: is not executable"


def _environment() -> dict[str, str]:
    """Return the program's environment, without the folder and replay given to this process."""
    paths = [str(Path(site.__path__[0])), os.environ.get("PYTHONPATH", "")]
    kept = {name: value for name, value in os.environ.items() if name not in (FOLDER, REPLAY)}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _recording(folder: Path, options: RecordingOptions, group: str) -> dict[str, str]:
    default = RecordingOptions()
    chosen = {
        each.name: getattr(options, each.name)
        for each in fields(options)
        if getattr(options, each.name) != getattr(default, each.name)
    }
    return {FOLDER: str(folder.absolute()), OPTIONS: json.dumps(chosen), GROUP: group}


@contextmanager
def _signals_passed_on(started: subprocess.Popen[bytes]) -> Iterator[None]:
    """Let the program end by its own handling of signals; a terminal sends it Ctrl-C itself."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        started.send_signal(number)

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, pass_on),
        signal.SIGHUP: signal.signal(signal.SIGHUP, pass_on),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _recorded(folder: Path, before: set[Path], group: str) -> list[Recorded]:
    """Return what is new in the folder; journals of a program that was killed are recovered.

    The program, and others, may put files of their own there.
    """
    found: list[Recorded] = []
    if not folder.is_dir():  # the program removed it
        return found
    for journal in left_behind(folder):
        if journal in before:
            continue
        try:
            recovery = recover(journal, None)
        except DgrecError as error:
            found.append(Recorded(journal, 0, 0, error=error))
        else:
            found.append(
                Recorded(recovery.output, recovery.frames, recovery.detections, recovery, journal)
            )
    recovered = {each.path for each in found}
    for path in sorted(folder.glob("*.parquet")):
        if path in before or path in recovered:
            continue
        try:
            with open_session(path) as session:
                totals = session.totals
                if session.metadata.get("group", {}).get("id") == group:
                    frames, detections = totals["frames"] or 0, totals["detections"] or 0
                    found.append(Recorded(path, frames, detections))
        except NotASessionError:
            continue
        except DgrecError as error:
            found.append(Recorded(path, 0, 0, error=error))
    return found
