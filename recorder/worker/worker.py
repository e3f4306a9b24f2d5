"""Runs PySDK's worker for Python postprocessors: without Ctrl-C, and no longer than its program.

    python worker.py PPROC_WORKER ARGUMENT ...

The worker looks for its program by its id, which a program that has ended keeps until its parent
has waited for it. A parent that first reads the program's output to its end would wait for ever:
the worker has that pipe open, too. But the worker gets another parent at once.
"""

import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.1)
    os._exit(0)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    if "--parent_pid" in sys.argv:
        parent = int(sys.argv[sys.argv.index("--parent_pid") + 1])
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
