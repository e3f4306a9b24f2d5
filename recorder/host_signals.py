"""The signals of the machine that records: processor, memory, temperatures."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import psutil  # type: ignore[import-untyped]

from dgrec.errors import DgrecError
from dgrec.format import LONGEST_NAME, Signal, is_utf8
from dgrec.recorder.machine import system_times

_INTERVAL_S = 1.0
#: How long the end of a recording waits for a sensor that hangs.
_LONGEST_READ_S = 1.0


class HostSignals:
    """Logs once a second what the machine reports, in a thread of its own, until it is closed.

    What it does not report is not logged: many machines have no sensor.

    Args:
        log: Takes each value.
        now_ns: The session's clock.
    """

    def __init__(self, log: Callable[[Signal], None], now_ns: Callable[[], int]) -> None:
        self._log = log
        self._now_ns = now_ns
        self._closed = threading.Event()
        self._times = system_times()
        self._thread = threading.Thread(target=self._run, name="dgrec-host", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join(_LONGEST_READ_S)

    def _run(self) -> None:
        with contextlib.suppress(DgrecError):  # the recorder takes no more
            while True:
                at_ns = self._now_ns()
                for name, value in self._read():
                    self._log(Signal(name, at_ns, value))
                if self._closed.wait(_INTERVAL_S):
                    return

    def _read(self) -> Iterator[tuple[str, float]]:
        before, self._times = self._times, system_times()
        total_s, idle_s = (now - then for now, then in zip(self._times, before, strict=True))
        if total_s > 0:  # within a clock tick the counters do not move
            yield "host.cpu", min(1.0, max(0.0, 1 - idle_s / total_s))
        with contextlib.suppress(psutil.Error, OSError):
            yield "host.memory", psutil.virtual_memory().percent / 100
        yield from _temperatures()


def _temperatures() -> Iterator[tuple[str, float]]:
    """Yield the temperature of each sensor in degrees Celsius."""
    try:
        chips = psutil.sensors_temperatures()
    except (psutil.Error, OSError, AttributeError, ValueError):  # not on this system
        return
    names: Counter[str] = Counter()
    for chip, sensors in chips.items():
        for sensor in sensors:
            name = f"host.{chip}.{sensor.label}" if sensor.label else f"host.{chip}"
            names[name] += 1
            if names[name] > 1:  # two processors, say
                name = f"{name}.{names[name]}"
            name += ".celsius"
            value = sensor.current
            is_name = len(name) <= LONGEST_NAME and is_utf8(name)
            if is_name and value is not None and abs(value) < 1000:
                yield name, float(value)
