"""The program that runs statements of users: see `dgrec.replay.viewing.statement_process`.

Once it is ready, it writes a line. It gets a line of JSON for each request, and writes a line with
the status and the body of each answer. The line ``null`` cancels the request that is being
answered. It ends with its input.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, Final

from dgrec.replay.limits import bounded_memory
from dgrec.replay.viewing import card
from dgrec.replay.viewing.opened_session import STATEMENT_MEMORY, OpenedSession
from dgrec.replay.viewing.parameters import Parameters, status_and_text
from dgrec.replay.viewing.questions import STATEMENTS
from dgrec.replay.viewing.values import json_bytes
from dgrec.replay.viewing.workers import Task
from dgrec.units import parse_size

__all__: list[str] = []

#: Sessions that are kept open.
_MOST_OPEN: Final = 2
#: Memory besides DuckDB's: what is known of rows, answers on their way out, what functions build.
_BESIDE: Final = 384 << 20


class _Sessions:
    """The sessions of the last statements."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, OpenedSession] = OrderedDict()

    def get(self, name: str, path: str, version: str) -> OpenedSession:
        opened = self._open.pop(path, None)
        if opened is not None and opened.version != version:
            opened.close()
            opened = None
        self._open[path] = opened = opened or OpenedSession(name, Path(path), version)
        while len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)[1].close()
        return opened


def _answer(sessions: _Sessions, request: dict[str, Any], task: Task) -> bytes:
    if "paths" in request:
        paths = [Path(path) for path in request["paths"]]
        return json_bytes(sorted(card.matching(paths, request["where"], task)))
    opened = sessions.get(request["s"], request["file"], request["version"])
    parameters = Parameters(request["query"])
    return json_bytes(STATEMENTS[request["path"]](opened, parameters, task))


def _line(sessions: _Sessions, request: dict[str, Any], task: Task) -> bytes:
    try:
        return b"200 " + _answer(sessions, request, task)
    except Exception as error:  # sessions are untrusted
        unexpected = 500, f"it cannot be shown ({type(error).__name__})"
        status, text = status_and_text(error) or unexpected
        return b"%d " % status + json_bytes(text)


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests, each of which comes after the answer to the one before."""
    sessions = _Sessions()
    task = Task()
    answers.write(b"ready\n")
    answers.flush()

    def work(request: dict[str, Any], task: Task) -> None:
        line = _line(sessions, request, task)
        answers.write(line + b"\n")
        answers.flush()

    for line in requests:
        request = json.loads(line)
        if request is None:
            task.cancel()
        else:
            task = Task()
            threading.Thread(target=work, args=(request, task), daemon=True).start()


def _be_first_to_go() -> None:
    """Have the kernel end this process before a recording when memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def main() -> None:
    folder = tempfile.tempdir = sys.argv[1]
    _be_first_to_go()
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else is written there
    with bounded_memory(int(parse_size(STATEMENT_MEMORY)), _BESIDE):
        _serve(requests, answers)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # a statement may go on


if __name__ == "__main__":
    main()
