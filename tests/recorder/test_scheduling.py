"""An encoder never gets ahead of inference: no thread's scheduling changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dgrec.recorder.video.codecs import CODECS
from dgrec.video import import_av
from tests.waiting import PATIENCE_S

_ROOT = Path(__file__).parents[2]
#: Encodes in a thread of its own, as a recording does; prints the scheduling of all threads.
_PROGRAM = """
import json, os, sys, threading
from pathlib import Path
import numpy as np
import psutil
from dgrec.recorder.video import check_codec
from dgrec.recorder.video.codecs import find_codec
from dgrec.recorder.video.file import EncodedVideo

def threads():
    processes = [os.getpid(), *(child.pid for child in psutil.Process().children())]
    return [(os.sched_getscheduler(int(t)), os.getpriority(os.PRIO_PROCESS, int(t)))
            for pid in processes for t in os.listdir(f"/proc/{pid}/task")]

def encode():
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
    file = EncodedVideo(Path(sys.argv[2]), "raw", codec, 70)
    for i in range(3):
        file.write(np.full((96, 128, 3), i, np.uint8), i * 40_000)
        seen.append(threads())
    file.close()
    seen.append(threads())

codec = find_codec(sys.argv[1])
seen = [threads()]
check_codec(codec, 70, (128, 96))
seen.append(threads())
thread = threading.Thread(target=encode)
thread.start()
thread.join()
print(json.dumps(seen))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="scheduling of single threads is Linux's")
@pytest.mark.parametrize("codec", [codec.name for codec in CODECS])
def test_no_thread_gets_ahead(tmp_path: Path, codec: str) -> None:
    (encoder,) = [one.encoder for one in CODECS if one.name == codec]
    if encoder not in import_av().codecs_available:
        pytest.skip(f"the installed PyAV has no {encoder}")
    if os.geteuid() != 0:
        pytest.skip("only root may change the scheduling, so nothing can be seen")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, codec, str(tmp_path / "v.mp4")],
        cwd=_ROOT, env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert len(seen) == 6
    for threads in seen:
        assert {policy for policy, _ in threads} == {os.SCHED_OTHER}
    # The thread that encodes has stepped back, and the encoder's own threads with it.
    ordinary, encoding = len(seen[1]), seen[2]
    assert sum(nice >= 10 for _, nice in encoding) >= len(encoding) - ordinary > 0
