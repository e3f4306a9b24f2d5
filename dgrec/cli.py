"""The command ``dgrec``: gathers all commands, and turns errors into one line.

Modules named ``cli`` import click and nothing heavy at their top: ``dgrec --help`` must not wait
for pyarrow, DuckDB or PySDK.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import platform
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from dgrec.credentials import redact_text, remember
from dgrec.errors import ConfigError, DgrecError, OutputError, StorageError
from dgrec.files import output_error
from dgrec.options import Command, Completed, verbosity_options
from dgrec.terminal import detail, echo, is_verbose, line, set_verbosity
from dgrec.version import __version__


class RootGroup(click.Group):
    """Prints errors in one line, and exits with the error's code (click: 2 for usage)."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:
        # Before anything can print a URL, which may also be in the wrong place.
        for argument in sys.argv[1:] if args is None else args:
            value = re.sub(r"--[\w-]+=", "", argument, count=1)
            if "://" in value and not any(c.isspace() for c in value.partition("://")[0]):
                remember(value)
        set_verbosity(0)
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
            _print_traceback(error)
            echo(f"Error: {error}", err=True, colour="red")
            raise SystemExit(error.exit_code) from error
        except ImportError as error:
            raise click.ClickException(_missing_library(error)) from error
        except OSError as error:
            _end_of_output(error)
        except KeyboardInterrupt:
            raise SystemExit(130) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        left = dict(sorted(self.commands.items()))
        for title, names in (*_COMMAND_GROUPS.items(), ("Other commands", list(left))):
            found = [left.pop(name) for name in names if name in left]
            rows = [
                (f"{each.name:{width}}", each.get_short_help_str(formatter.width)) for each in found
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


#: Commands that run Python of their users (analyzers, postprocessors of models), and the option
#: with which others do.
_USERS_CODE = frozenset(("record", "analyze", "whatif", "alerts", "--analyzers"))
#: The commands by their titles in ``dgrec --help``; those without one come last.
_COMMAND_GROUPS = {
    "Record": ("record", "run", "recover"),
    "Look": ("list", "info", "view", "replay", "report", "verify"),
    "Measure and ask": ("stats", "compare", "query", "whatif", "alerts"),
    "Cut, add and hand on": ("clip", "analyze", "merge", "export", "import", "publish"),
}


def _print_traceback(error: BaseException) -> None:
    if is_verbose():
        for text in redact_text("".join(traceback.format_exception(error))).splitlines():
            echo(text, err=True)


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
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):  # of a file to read or to write
        problem = OutputError(f"{error.filename}: cannot be opened: {error.strerror}")
    echo(f"Error: {problem}", err=True)
    raise SystemExit(problem.exit_code) from None


def _discard_output() -> None:
    """Redirect standard output to /dev/null, or Python would report that it cannot flush it."""
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


def _command_names(_: click.Context, incomplete: str) -> list[str]:
    return [name for name in sorted(root.commands) if name.startswith(incomplete)]


@click.group(
    cls=RootGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try it, with no camera and no accelerator: dgrec record sample",
)
@click.version_option(__version__, "-V", "--version", prog_name="dgrec")
def root() -> None:
    """Record what an AI camera pipeline did; look at it again; measure it."""
    detail(f"dgrec {__version__}, Python {platform.python_version()}")


root.params += verbosity_options()


@click.command(
    "help",
    cls=Command,
    short_help="Show the help of a command.",
    epilog="Example: dgrec help record",
)
@click.argument("words", nargs=-1, metavar="[COMMAND]", type=Completed(_command_names))
@click.pass_context
def help_command(context: click.Context, words: tuple[str, ...]) -> None:
    """Show what a command does and all of its options, as COMMAND --help does."""
    outer = context.parent or context
    if not words:
        _say(outer.get_help())
        return
    if len(words) > 1:
        raise click.UsageError("give one command")
    command = root.get_command(outer, words[0])
    if command is None:
        root.resolve_command(outer, [words[0]])  # which reports it, and suggests others
        return
    _say(command.get_help(click.Context(command, outer, command.name)))


@click.command(
    "completion",
    cls=Command,
    short_help="Print what makes a shell complete commands, sessions and columns.",
    epilog="Example: dgrec completion bash >> ~/.bashrc",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print a script for SHELL that completes commands, options, sessions, sources and columns.

    \b
    bash: dgrec completion bash >> ~/.bashrc
    zsh:  dgrec completion zsh >> ~/.zshrc        (after compinit)
    fish: dgrec completion fish > ~/.config/fish/completions/dgrec.fish
    """
    from dgrec.completion import script

    _say(script(root, shell))


def _say(text: str) -> None:
    for each in text.splitlines():
        echo(each)


def gather() -> click.Group:
    """Return the root command with the commands of the recorder and of replay."""
    import dgrec.recorder.cli
    import dgrec.replay.cli

    if "_DGREC_COMPLETE" in os.environ:
        from dgrec.completion import register

        register()
    here = (help_command, completion_command)
    for command in (*dgrec.recorder.cli.COMMANDS, *dgrec.replay.cli.COMMANDS, *here):
        root.add_command(command)
    return root


def main() -> None:
    """Entry point of the console script."""
    _open_standard_streams()
    _stop_in_order()
    _WithoutPandas.begin()
    sys.meta_path.insert(0, _PysdkHome)
    if "view" in sys.argv[1:]:
        # Arrow reads it once, when it is loaded. Memory that it frees returns to the system.
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
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


class _WithoutPandas:
    """Hides pandas: pyarrow and DuckDB would load it if it is installed, in 0.2 s and 40 MB.

    Nothing here needs it. It is not hidden where a user's code runs.
    """

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("not used by this command", name=name)

    @classmethod
    def begin(cls) -> None:
        if _USERS_CODE.isdisjoint(word.partition("=")[0] for word in sys.argv[1:]):
            sys.meta_path.insert(0, cls)


class _PysdkHome:
    """Makes PySDK's folder before PySDK does, which ends the process if it cannot."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        home = os.environ.get("HOME")
        if name != "degirum" or not home:
            return
        folder = Path(home, ".local/share/DeGirum")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = output_error(folder, error)
            if isinstance(problem, StorageError) and problem.is_full:
                raise problem from None
            raise ConfigError(
                f"{folder}: PySDK needs this folder, and it cannot be made: {error.strerror}; set "
                "HOME to a folder that can be written"
            ) from None


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
    # A descriptor of its own: 2 is also that of native libraries, and may be redirected.
    raw = os.fdopen(os.dup(2), "wb", closefd=False)
    sys.stderr = _StandardError(raw, encoding, "backslashreplace", line_buffering=True)


def _leave_hanging_thread(code: object) -> None:
    """Exit at once if a thread still hangs in a source, an AI server, a SQL statement or a viewer.

    If such a thread returned from OpenCV while Python is shutting down, C++ would abort the
    process; for DuckDB, Python would wait. Everything is sealed and reported at this point.
    """
    hanging = (
        "dgrec-camera",
        "dgrec-source",
        "dgrec-duckdb",
        "dgrec-server",
        "dgrec-viewing",
    )
    if any(thread.name.startswith(hanging) for thread in threading.enumerate()):
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)
