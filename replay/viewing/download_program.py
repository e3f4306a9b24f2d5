"""The program that makes a download: `dgrec`, which ends with its input.

The server holds the other end of its input, and may be killed.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading
import time
from typing import Final

__all__: list[str] = []

#: Seconds that the command has for an orderly end, in which its temporary files are removed.
_END_S: Final = 1.0


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_END_S)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_input, daemon=True).start()
    runpy.run_module("dgrec", run_name="__main__")
