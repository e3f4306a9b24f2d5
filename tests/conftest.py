"""Set-up of every test: its signals, and the end of the processes that it starts."""

from __future__ import annotations

import os

# Before anything imports NumPy: many small test processes do not each need a thread per core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import signal
import subprocess
from collections.abc import Generator, Iterator
from typing import Any

import psutil
import pytest

from dgrec import credentials
from dgrec.format import is_utf8
from dgrec.terminal import set_verbosity


def pytest_configure() -> None:
    """Give the tests, and what they start, the signals of a program in a terminal.

    A shell starts background jobs with SIGINT ignored, `nohup` does so with SIGHUP, and whatever
    is ignored stays ignored in every process below.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    # Ended from outside, a run still ends what its tests have started.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("ended by SIGTERM", 143))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Make what a report says UTF-8: a name that is not would end the whole run (xdist)."""
    report = yield
    if report.longrepr is not None and not isinstance(report.longrepr, tuple):
        text = str(report.longrepr)
        if not is_utf8(text):
            report.longrepr = _as_utf8(text)
    report.sections = [(name, _as_utf8(text)) for name, text in report.sections]
    return report


def _as_utf8(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


@pytest.fixture(autouse=True)
def _end_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End every process that a test has started, with all below it, however the test ends."""
    started: list[subprocess.Popen[Any]] = []
    start = subprocess.Popen.__init__

    def note(self: subprocess.Popen[Any], *arguments: Any, **options: Any) -> None:
        start(self, *arguments, **options)
        if "pproc_worker" not in str(self.args):  # PySDK's own, which later tests use as well
            started.append(self)

    monkeypatch.setattr(subprocess.Popen, "__init__", note)
    yield
    for process in started:
        end_process(process)


@pytest.fixture(autouse=True)
def _forget_logins() -> Iterator[None]:
    """Forget the addresses of a test: their secrets are left out of whatever later ones print."""
    yield
    credentials._addresses.clear()
    credentials._secrets.clear()


@pytest.fixture(autouse=True)
def _speak_as_usual() -> Iterator[None]:
    """Forget a test's ``--quiet``: only the whole program does so by itself."""
    yield
    set_verbosity(0)


def end_process(process: subprocess.Popen[Any]) -> None:
    """Kill a process and all below it: a recorder has PySDK's worker, a browser has many."""
    if process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(process.pid)
            top.suspend()  # it starts no more of them meanwhile
            for child in (*top.children(recursive=True), top):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
