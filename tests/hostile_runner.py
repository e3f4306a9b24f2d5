"""Runs every reading command over files and reports what no file may do to them.

Each file gets a process of its own, forked from one that has imported everything: starting Python
for each command would take a second. That one has run nothing yet: a fork of a process that has,
such as pytest's, lacks the threads that libraries wait for. What is printed goes to a
pseudo-terminal.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, TextIO

__all__ = ["COMMANDS", "MEMORY_MB", "SECONDS", "Finding", "prepare", "run", "run_apart"]

#: What a command may take for one file. Other work on the machine is not its fault: the lesser of
#: the clock's and the processor's time counts, but for a command that hangs.
SECONDS = 10.0
_HANGS = 90.0
#: Besides what importing everything takes, some 350 MB.
MEMORY_MB = 650
#: Frames that are looked at one by one: an honest long recording takes its time as well.
_FRAMES = 10_000
#: Kept from taking the machine down with it.
_DATA = 12 << 30
#: What a terminal acts upon; colors and cursor movements of dgrec's own are not among them.
_ACTIVE = re.compile(
    "\x1b\\]|\x07|\x08|\x00|\x1b\\[5m|\x1b\\[2J|[\x80-\x9f\u202a-\u202e\u2066-\u2069]"
)
#: Of what a command writes: so many bytes from its start, and at least as many of its end.
_KEPT = 4 << 20
_TRACE = "Traceback (most recent call last)"
_EXIT_CODES = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Finding:
    """Something that a file did to a command."""

    path: Path
    command: str
    #: ``traceback``, ``crash``, ``time``, ``memory``, ``control``, ``code``, ``empty``
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind:9} {self.command:12} {self.path.name}: {self.detail}"


def _dgrec(*arguments: str) -> Callable[[Path, Path], None]:
    """Return a run of the command line; ``{}`` is the file, ``{out}`` a new folder."""

    def command(path: Path, folder: Path) -> None:
        from dgrec.cli import root

        shown = [
            str(path) if item == "{}" else item.replace("{out}", str(folder)) for item in arguments
        ]
        root.main(shown, prog_name="dgrec")

    return command


def _library(path: Path, folder: Path) -> None:
    """Look at everything that `dgrec.open` gives."""
    import numpy as np

    import dgrec
    from dgrec.errors import DgrecError

    try:
        with dgrec.open(path) as session:
            repr((len(session), session.id, session.damage, session, session._repr_html_()))
            repr((session.frames.num_rows, session.detections.num_rows))
            session.sql_rows("SELECT count(*) FROM detections")
            for result in itertools.islice(session, _FRAMES):
                width, height = result.size
                _look_at((result, result.timing, result.info, result.attributes))
                repr(result.captured_at)
                if min(width, height) > 0 and width * height < 1 << 22:
                    with contextlib.suppress(DgrecError):
                        result.overlay(np.zeros((height, width, 3), np.uint8))
            if len(session):
                repr(session[-1].label_dictionary)
    except DgrecError as error:
        print(f"Error: {error}")
        raise SystemExit(error.exit_code) from None


def _look_at(value: Any) -> None:
    """Make a text of a value. Python itself refuses that for integers of thousands of digits."""
    try:
        repr(value)
    except ValueError as error:
        if "integer string conversion" not in str(error):
            raise


def _connect(path: Path, folder: Path) -> None:
    import warnings

    import dgrec
    from dgrec import sample
    from dgrec.errors import DgrecError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            connection = dgrec.connect(path, sample.SESSION)
        except DgrecError as error:  # the sample alone can be read
            raise AssertionError(str(error)) from error
        connection.close()


def _beside(path: Path, folder: Path) -> None:
    """Ask a question of a folder in which the file lies beside a good session."""
    from dgrec import sample
    from dgrec.cli import root

    shutil.copy(sample.SESSION, folder / "good.parquet")
    (folder / f"other{path.suffix}").symlink_to(path.absolute())
    question = "SELECT count(*) FROM sessions WHERE name <> ''"
    root.main(["query", str(folder), question], prog_name="dgrec")


def _recover(path: Path, folder: Path) -> None:
    from dgrec.cli import root

    journal = folder / "copy.arrows"
    if path.is_file():
        shutil.copy(path, journal)
    root.main(["recover", str(journal)], prog_name="dgrec")


def _record(path: Path, folder: Path) -> None:
    from dgrec.cli import root

    os.chdir(path)
    root.main(["record", "--source", "cam7", "-o", str(folder / "x.parquet")], prog_name="dgrec")


_SQL = "SELECT frame, captured_at, detections, attributes, timing FROM frames LIMIT 5"
COMMANDS: dict[str, Callable[[Path, Path], None]] = {
    "list": _dgrec("list", "{}"),
    "info": _dgrec("info", "{}"),
    "info json": _dgrec("info", "--format", "json", "{}"),
    "verify": _dgrec("verify", "{}"),
    "stats": _dgrec("stats", "{}"),
    "stats --why": _dgrec("stats", "--why", "{}"),
    "stats --late": _dgrec("stats", "--late", "3", "{}"),
    "stats --by": _dgrec("stats", "--by", "label", "{}"),
    "query": _dgrec("query", "{}", _SQL),
    "sessions": _dgrec("query", "{}", "FROM sessions"),
    "folder": _beside,
    "compare": _dgrec("compare", "{}", "{}"),
    "report": _dgrec("report", "-q", "-o", "{out}/report.html", "{}"),
    "replay": _dgrec(
        "replay", "-q", "-o", "{out}/x.mp4", "--end", "50", "--trails", "3", "--hud", "{}"
    ),
    "clip": _dgrec("clip", "-q", "--end", "5", "-o", "{out}/clip.parquet", "{}"),
    "whatif": _dgrec("whatif", "{}", "--threshold", "0.1:0.9:0.4", "--nms", "0.1,0.5"),
    "alerts": _dgrec(
        "alerts", "{}", "--alert", "a=count() > 1 and best('face') > 0.1", "--alert", "b=missing 1s"
    ),
    "publish": _dgrec("publish", "{}", "--payload", "full", "--fast", "{out}/lines.jsonl"),
    **{
        f"export {form}": _dgrec(
            "export",
            "{}",
            "-q",
            "--end",
            "5",
            "-o",
            "{out}/x",
            "--format",
            form,
            "--images",
            "none",
        )
        for form in ("csv", "coco", "cvat", "mcap")
    },
    "recover": _recover,
    "open": _library,
    "connect": _connect,
}
_FOR_CONFIGURATION = {"record": _record}


def prepare() -> None:
    """Import what the commands import, before anything is forked."""
    import cv2

    from dgrec import cli, sample

    cv2.setNumThreads(1)
    cli.gather()
    for name in _looked_up(sample.SESSION):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _looked_up(path: Path) -> list[str]:
    """Return the modules that all commands import.

    Another process finds them: a run of a command leaves threads behind, which no fork takes along.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as found:
        pid = os.fork()
        if pid == 0:
            gc.freeze()  # models of PySDK that are garbage cannot be released in a fork
            _look_up(path, found)
        os.waitpid(pid, 0)
        found.seek(0)
        return found.read().split()


def _look_up(path: Path, found: TextIO) -> None:
    before = set(sys.modules)
    _write_to(os.open(os.devnull, os.O_WRONLY))
    for command in COMMANDS.values():
        _outcome_of(command, path)
    names = [name for name in sys.modules if name not in before]
    found.write("\n".join(names))
    found.flush()
    os._exit(0)


def run(
    paths: Iterable[Path],
    commands: Iterable[str] | None = None,
    *,
    seconds: float = SECONDS,
    memory_mb: int = MEMORY_MB,
) -> Iterator[Finding]:
    """Yield what files do that they must not; ``commands`` are names of `COMMANDS`."""
    prepare()
    names = list(COMMANDS) if commands is None else list(commands)
    for path in paths:
        if path.suffix == ".toml":
            todo = dict(_FOR_CONFIGURATION)
        else:
            todo = {name: COMMANDS[name] for name in names}
        yield from _run_file(path, todo, seconds, memory_mb)


def run_apart(paths: Iterable[Path], commands: Sequence[str]) -> list[Finding]:
    """Return what `run` yields, from a process that has run nothing before."""
    todo = json.dumps([[*map(str, paths)], [*commands]])  # as ASCII: not all names are text
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=todo, stdout=subprocess.PIPE, text=True, check=True
    )
    found = (json.loads(line) for line in done.stdout.splitlines())
    return [Finding(Path(path), *said) for path, *said in found]


def _main() -> None:
    paths, commands = json.load(sys.stdin)
    for finding in run(map(Path, paths), commands):
        print(json.dumps([str(finding.path), *astuple(finding)[1:]]), flush=True)


def _run_file(
    path: Path, commands: dict[str, Callable[[Path, Path], None]], seconds: float, memory_mb: int
) -> Iterator[Finding]:
    left = list(commands)
    while left:
        for outcome in _run_child(path, {name: commands[name] for name in left}):
            left.remove(outcome.command)
            yield from outcome.findings(path, seconds, memory_mb)


@dataclass
class _Outcome:
    """What became of one command."""

    command: str
    code: int | None
    seconds: float
    cpu_seconds: float
    peak_mb: float
    output: str

    def findings(self, path: Path, seconds: float, memory_mb: int) -> Iterator[Finding]:
        def found(kind: str, detail: str) -> Finding:
            return Finding(path, self.command, kind, detail)

        last = (self.output.strip().splitlines() or [""])[-1][:300]
        if self.code is None:
            yield found("time", f"hangs after {_HANGS:.0f} s")
        elif min(self.seconds, self.cpu_seconds) > seconds:
            yield found("time", f"{self.cpu_seconds:.1f} s")
        elif self.code < 0:
            yield found("crash", f"{signal.Signals(-self.code).name}: {last}")
        elif self.code not in _EXIT_CODES:
            yield found("code", f"exit {self.code}: {last}")
        if _TRACE in self.output:
            yield found("traceback", last)
        if self.code not in (0, None) and self.code > 0 and not last:
            yield found("empty", f"exit {self.code} without a word")
        if match := _ACTIVE.search(self.output):
            around = self.output[max(0, match.start() - 40) : match.end() + 10]
            yield found("control", repr(around))
        if self.peak_mb > memory_mb:
            yield found("memory", f"{self.peak_mb:,.0f} MB")


#: Follows what a command has written to the terminal.
_END = b"\x1e(end)\x1e"
_DONE = struct.Struct("<idd")


def _run_child(path: Path, commands: dict[str, Callable[[Path, Path], None]]) -> Iterator[_Outcome]:
    """Run commands in one process, until one of them ends it."""
    done_read, done_write = os.pipe()
    master, slave = pty.openpty()
    _set_size(slave)
    pid = os.fork()
    if pid == 0:
        gc.freeze()
        os.close(done_read)
        os.close(master)
        _child(path, commands, slave, done_write)
    os.close(done_write)
    os.close(slave)
    try:
        yield from _watch(pid, list(commands), master, done_read)
    finally:
        os.close(master)
        os.close(done_read)


def _watch(pid: int, commands: list[str], master: int, done: int) -> Iterator[_Outcome]:
    output = bytearray()
    started = time.monotonic()
    peak = cpu = 0.0

    def outcome(code: int | None, cpu_now: float, peak_mb: float) -> _Outcome:
        # What follows is the next command's already.
        written, _, output[:] = bytes(output).partition(_END)
        text = written.decode("utf-8", "replace")
        seconds = time.monotonic() - started
        return _Outcome(commands.pop(0), code, seconds, cpu_now - cpu, peak_mb, text)

    def drain() -> None:
        # What was written to a terminal arrives a moment later.
        while _END not in output and select.select([master], [], [], 30)[0]:
            if not _read(master, output):
                break

    while True:
        wait = started + _HANGS - time.monotonic()
        ready, _, _ = select.select([master, done], [], [], max(0.0, wait))
        if not ready:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            drain()
            yield outcome(None, cpu, 0.0)
            return
        if master in ready and not _read(master, output) and done not in ready:
            ready = [done]
        if done in ready:
            data = os.read(done, _DONE.size)
            drain()
            if len(data) == _DONE.size:
                code, cpu_now, now = _DONE.unpack(data)
                yield outcome(code, cpu_now, now if now > peak else 0.0)
                peak, cpu = max(peak, now), cpu_now
                started = time.monotonic()
                continue
            _, status = os.waitpid(pid, 0)
            if commands:
                code = os.waitstatus_to_exitcode(status)
                yield outcome(code, cpu, 0.0)
            return


def _read(master: int, output: bytearray) -> bool:
    try:
        data = os.read(master, 1 << 16)
    except OSError:  # the other end is closed
        return False
    output += data
    if len(output) > 2 * _KEPT:  # its end says that the command is done
        del output[_KEPT:-_KEPT]
    return bool(data)


def _set_size(terminal: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))


def _child(path: Path, commands: dict[str, Any], terminal: int, done: int) -> None:
    """Run the commands one after the other and end; never returns."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    resource.setrlimit(resource.RLIMIT_DATA, (_DATA, _DATA))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for command in commands.values():
        _write_to(terminal)  # a command may have closed it behind itself
        code = _outcome_of(command, path)
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os.write(1, _END)
        used = resource.getrusage(resource.RUSAGE_SELF)
        grown = (used.ru_maxrss - before) / 1024
        os.write(done, _DONE.pack(code, used.ru_utime + used.ru_stime, grown))
    os._exit(0)


def _write_to(terminal: int) -> None:
    os.dup2(terminal, 1)
    os.dup2(terminal, 2)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _outcome_of(command: Callable[[Path, Path], None], path: Path) -> int:
    folder = Path(tempfile.mkdtemp(prefix="dgrec-hostile-"))
    try:
        command(path, folder)
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main()
