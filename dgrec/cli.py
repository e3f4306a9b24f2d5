"""The command ``dgrec``: gathers the commands of both rooms and turns errors into one line.

Modules named ``cli`` import click and nothing heavy at their top: ``dgrec --help`` must not wait
for pyarrow, DuckDB or PySDK.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import click

from dgrec.errors import DgrecError
from dgrec.version import __version__


class RootGroup(click.Group):
    """Prints what went wrong in one line, and exits as the error says (click: 2 for usage)."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DgrecError as error:
            click.ClickException(str(error)).show()
            raise SystemExit(error.exit_code) from error
        except ImportError as error:
            raise click.ClickException(_missing_library(error)) from error
        except BrokenPipeError:
            # `dgrec query ... | head`: the reader has seen enough. Python would complain again
            # when it flushes stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None


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
    """Return the root command with the commands of both rooms."""
    # The front door is the one place in this package that knows the two rooms behind it.
    import recorder.cli
    import replay.cli

    for command in (*recorder.cli.COMMANDS, *replay.cli.COMMANDS):
        root.add_command(command)
    return root


def main() -> None:
    """Entry point of the console script."""
    try:
        gather().main(prog_name="dgrec")
    except SystemExit as end:
        _leave_hanging_thread(end.code)
        raise


def _leave_hanging_thread(code: object) -> None:
    """End the process here if a thread still hangs in a silent camera, or in a statement.

    Should it come back from OpenCV while Python is shutting down, C++ would abort the process; for
    DuckDB, Python would wait. By now all is sealed and said; what is left is the exit code.
    """
    hanging = ("dgrec-camera", "dgrec-duckdb", "dgrec-server")
    if any(thread.name.startswith(hanging) for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))
