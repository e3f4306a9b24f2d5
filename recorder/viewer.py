"""``--view``: the page of `dgrec view`, in a process of its own, for as long as is recorded."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

__all__ = ["viewing"]

#: How much less of the processor than the recording it gets.
_NICE: Final = 10
_END_S: Final = 5.0


@contextlib.contextmanager
def viewing(
    folders: Sequence[Path], session: str, say: Callable[[str], None], *, is_on: bool = True
) -> Iterator[None]:
    """Show the sessions in folders while the block runs.

    The page has a process of its own, which ends with this one, whatever ends it. If it cannot be
    shown, the recording goes on without.

    Args:
        session: Which of them is shown first; "": the list.
        say: Gets the address, in another thread.
    """
    if not is_on:
        yield
        return
    command = [sys.executable, "-m", "dgrec", "view", *map(str, folders), "--of-recorder", session]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # closed where this process ends
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C ends the recording; the page ends after it
        )
    except OSError as error:
        say(f"No page: {error.strerror}")
        yield
        return
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
    reading = threading.Thread(target=_say_address, args=(process, say), daemon=True)
    reading.start()
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reading.join()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def _say_address(process: subprocess.Popen[bytes], say: Callable[[str], None]) -> None:
    assert process.stdout is not None
    assert process.stderr is not None
    address = process.stdout.readline().decode(errors="replace").strip()
    if address:
        say(f"Look at it while it is recorded: {address}")
    errors = process.stderr.read().decode(errors="replace").strip()
    if not address:
        say(f"No page: {errors.splitlines()[-1].removeprefix('Error: ') if errors else 'it ended'}")
