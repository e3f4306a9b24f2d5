"""The command ``dgrec``: gathers all commands, and turns errors into one line.

Modules named ``cli`` import click and nothing heavy at their top: ``dgrec --help`` must not wait
for pyarrow, DuckDB or PySDK.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from dgrec.credentials import redact_text, remember
from dgrec.errors import DgrecError
from dgrec.files import output_error
from dgrec.terminal import echo, line
from dgrec.version import __version__


class RootGroup(click.Group):
    """Prints errors in one line, and exits with the error's code (click: 2 for usage)."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        # Before anything can print one of them: a URL may also be in the wrong place.
        for argument in sys.argv[1:] if args is None else args:
            value = re.sub(r"--[\w-]+=", "", argument, count=1)
            if "://" in value and not any(c.isspace() for c in value.partition("://")[0]):
                remember(value)
        try:
            return super().main(args, *more, **extra)
        except OSError as error:  # while click itself prints: --help, --version
            _end_of_output(error)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        with _one_printable_line():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _one_printable_line():
                return super().invoke(ctx)
        except DgrecError as error:
            echo(f"Error: {error}", err=True)
            raise SystemExit(error.exit_code) from error
        except ImportError as error:
            raise click.ClickException(_missing_library(error)) from error
        except OSError as error:
            _end_of_output(error)
        except KeyboardInterrupt:
            raise SystemExit(130) from None


@contextlib.contextmanager
def _one_printable_line() -> Iterator[None]:
    """Make click's errors printable: they repeat arguments, which may come from a script."""
    try:
        yield
    except click.ClickException as error:
        error.message = line(error.message)  # type: ignore[misc]
        if isinstance(error, click.FileError):
            error.ui_filename = line(error.ui_filename)  # type: ignore[misc]
        raise


def _end_of_output(error: OSError) -> NoReturn:
    """Exit with one line because standard output, or another file, cannot be written.

    Raises:
        SystemExit: Always; 0 for a pipe that is no longer read (`dgrec query ... | head`).
    """
    _discard_output()
    if isinstance(error, BrokenPipeError):
        raise SystemExit(0) from None
    problem = output_error(error.filename or "standard output", error)
    echo(f"Error: {problem}", err=True)
    raise SystemExit(problem.exit_code) from None


def _discard_output() -> None:
    """Redirect standard output to /dev/null: Python would report that it cannot flush it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _missing_library(error: ImportError) -> str:
    text = str(error)
    if "libGL" in text or "libgthread" in text or "libglib" in text:
        return (
            f"OpenCV cannot be loaded ({text}); install the system libraries it needs: "
            "on Debian and Ubuntu, `apt-get install libgl1 libglib2.0-0`"
        )
    return f"a library is missing ({text}); reinstall with `pip install --force-reinstall dgrec`"


@click.group(
    cls=RootGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try it, with no camera and no accelerator: dgrec record --source sample",
)
@click.version_option(__version__, prog_name="dgrec")
def root() -> None:
    """Record what an AI camera pipeline did; look at it again; measure it."""


def gather() -> click.Group:
    """Return the root command with the commands of the recorder and of replay."""
    import dgrec.recorder.cli
    import dgrec.replay.cli

    for command in (*dgrec.recorder.cli.COMMANDS, *dgrec.replay.cli.COMMANDS):
        root.add_command(command)
    return root


def main() -> None:
    """Entry point of the console script."""
    _open_standard_streams()
    _stop_in_order()
    try:
        gather().main(prog_name="dgrec")
    except SystemExit as end:
        _leave_hanging_thread(end.code)
        try:
            sys.stdout.flush()
        except (OSError, ValueError):  # already reported
            _discard_output()
        raise
    except Exception:  # a defect in dgrec: print where, without secrets
        for text in redact_text(traceback.format_exc()).splitlines():
            echo(text, err=True)
        raise SystemExit(1) from None


def _stop_in_order() -> None:
    """Turn the signals that end a program into `SystemExit`, so that temporary files are removed.

    Ignored signals stay ignored, such as SIGHUP after ``nohup``.
    """

    def stop(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop)


class _StandardError(io.TextIOWrapper):
    """Standard error that may be full or closed: no command fails because of a message."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def _open_standard_streams() -> None:
    """Open /dev/null for closed streams, or the next file would get their descriptors."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    closed = [number for number, stream in enumerate(streams) if stream is None]
    for number in closed:
        # Stdout for reading only, so that writing to it fails.
        assert os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY) == number
    if 0 in closed:
        sys.stdin = os.fdopen(0, "r", encoding="utf-8", closefd=False)
    if 1 in closed:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    encoding = "utf-8" if 2 in closed else sys.stderr.encoding
    raw = os.fdopen(2, "wb", closefd=False)
    sys.stderr = _StandardError(raw, encoding, "backslashreplace", line_buffering=True)


def _leave_hanging_thread(code: object) -> None:
    """Exit at once if a thread still hangs in a source, an AI server or a SQL statement.

    If such a thread returned from OpenCV while Python is shutting down, C++ would abort the
    process; for DuckDB, Python would wait. Everything is sealed and reported at this point.
    """
    hanging = ("dgrec-camera", "dgrec-source", "dgrec-duckdb", "dgrec-server")
    if any(thread.name.startswith(hanging) for thread in threading.enumerate()):
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)
