"""Clips of alerts, cut from the recording while it goes on, and after its end.

The alerts that need a clip are in the recording itself, and `dgrec clip --alerts` cuts all that are
over and have none: nothing has to be remembered here, and after a kill the same command goes on.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from dgrec.alerts import RecordedAlert, clip_path, without_clip
from dgrec.errors import OutputError
from dgrec.paths import journal_path
from dgrec.processes import module_command
from dgrec.recorder.signals import usual_signals
from dgrec.units import and_more, counted

#: How long to wait before another attempt where not all could be cut, at first and at most.
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 30.0
#: How often an alert is tried while the recording goes on.
_MOST_ATTEMPTS = 8
_NICENESS = 19
#: The most alerts that are remembered as due: an attempt for these cuts any others, too.
_MOST_REMEMBERED = 10_000
#: One command at a time, for all recordings of this process.
_ONE_AT_A_TIME = threading.Lock()


def without_clips(recording: Path, count: int) -> str:
    """Return a line about alerts that have no clip yet."""
    name = str(recording)
    name = f"./{name}" if name.startswith("-") else name
    command = shlex.join(["dgrec", "clip", name, "--alerts"])
    return f"{counted(count, 'alert')} without a clip: {command}"


class AlertClips:
    """Has a clip cut of each alert, in a process of low priority: an `AlertListener`.

    Args:
        recording: The path that opens the session after its end.
        live: Returns the path that opens it now; None: not yet.
        before_s: How much a clip has before the alert.
        after_s: How much it has after the end of the alert.
        say: Reports a line.
    """

    def __init__(
        self,
        recording: Path,
        live: Callable[[], Path | None],
        before_s: float,
        after_s: float,
        say: Callable[[str], None],
    ) -> None:
        self._recording, self._live = recording, live
        self._around = ["--before", f"{before_s:.6f}", "--after", f"{after_s:.6f}"]
        self._after_us = round(after_s * 1e6)
        self._say = say
        self._held: dict[str, RecordedAlert] = {}
        #: Alerts that are over, each with the time when all of its clip is recorded.
        self._over: deque[tuple[int, RecordedAlert]] = deque(maxlen=_MOST_REMEMBERED)
        #: Clips that can be cut, and how often that was tried.
        self._due: dict[Path, int] = {}
        self._process: subprocess.Popen[str] | None = None
        #: Why the last attempt could not cut all, and why the first such attempt could not.
        self._problem = self._first_problem = ""
        self._lock = threading.Lock()
        self._is_due = threading.Event()
        self._is_ending = self._is_abandoned = self._has_fired = False
        self._thread: threading.Thread | None = None

    # --- for the alerts; none of it waits ---

    def fired(self, name: str, at_us: int) -> None:
        self._has_fired = True
        self._held[name] = RecordedAlert(name, "", at_us)

    def ended(self, name: str, at_us: int) -> None:
        if (alert := self._held.pop(name, None)) is not None:
            self._over.append((at_us + self._after_us, alert))

    def reached(self, at_us: int) -> None:
        while self._over and self._over[0][0] < at_us:
            clip = clip_path(self._recording, self._over.popleft()[1])
            with self._lock:
                if len(self._due) < _MOST_REMEMBERED:
                    self._due.setdefault(clip, 0)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dgrec-clips", daemon=True)
                self._thread.start()
            self._is_due.set()

    def lose_track(self) -> None:
        """Do nothing: the alerts that are known get their clips."""

    def finish(self) -> None:
        """Cut no more clips while the recording goes on.

        Raises:
            OutputError: Clips could not be written so far.
        """
        self._is_ending = True
        self._is_due.set()
        if self._first_problem:
            raise OutputError(f"{self._first_problem}; tried again after the recording")

    # --- after the end of the recording ---

    def cut_rest(self, say: Callable[[str], None]) -> None:
        """Cut all clips that are missing, and report each.

        Not to be called before the recording is sealed.
        """
        if count := self.left():
            self._say = say
            say(f"Cutting {counted(count, 'clip')} of alerts; Ctrl-C leaves that for later.")
            self._problem = ""
            alerts = [*(alert for _, alert in self._over), *self._held.values()]
            clips = {*self._due, *(clip_path(self._recording, alert) for alert in alerts)}
            self._cut(self._recording, sorted(clip for clip in clips if not clip.exists()))

    def left(self) -> int:
        """Return how many alerts have no clip, once nothing more is cut."""
        self._is_ending = True
        self._is_due.set()
        if self._thread is not None:
            self._thread.join()
        return without_clip(self.path) if self._has_fired else 0

    @property
    def path(self) -> Path:
        """The path that opens the recording after its end, or its failure."""
        journal = journal_path(self._recording)
        return journal if journal.exists() and not self._recording.exists() else self._recording

    def abandon(self) -> None:
        """Cut nothing more; called from any thread, before this process exits."""
        self._is_abandoned = True
        process = self._process
        if process is not None:
            with contextlib.suppress(OSError):
                process.terminate()

    # --- inside ---

    def _run(self) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            self._is_due.wait()
            self._is_due.clear()
            if self._is_ending:
                return
            with self._lock:
                due = [clip for clip, tried in self._due.items() if tried < _MOST_ATTEMPTS]
            if not due:
                continue
            path = self._live()
            made = 0 if path is None else self._cut(path, due)
            wait_s = _FIRST_WAIT_S if made else min(2 * wait_s, _LONGEST_WAIT_S)
            if made < len(due):
                # What is recorded reaches the disk a little later.
                due_s = time.monotonic() + wait_s
                while not self._is_ending and time.monotonic() < due_s:
                    self._is_due.wait(due_s - time.monotonic())
                    self._is_due.clear()
                self._is_due.set()

    def _cut(self, path: Path, clips: Sequence[Path]) -> int:
        """Run the command; report the clips that are there now, and return how many."""
        with _ONE_AT_A_TIME:
            problems = self._run_command(path)
        made = [clip for clip in clips if clip.exists()]
        for clip in made:
            self._say(f"Clip: {clip.name}")
        with self._lock:
            for clip in clips:
                self._due[clip] = self._due.get(clip, 0) + 1
            for clip in made:
                del self._due[clip]
        if problems and not self._problem:
            self._say(and_more(problems))
        self._problem = problems[0] if problems else ""
        self._first_problem = self._first_problem or self._problem
        return len(made)

    def _run_command(self, path: Path) -> list[str]:
        """Run `dgrec clip`; return what it says if it could not cut all clips."""
        if self._is_abandoned:
            return []
        try:
            command = module_command("dgrec", "clip", "--alerts", "--quiet", *self._around)
            command += ["--", str(path)]
            # A session of its own: Ctrl-C is meant for the recording.
            with usual_signals():
                process = self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                )
        except OSError as error:
            return [f"clips of alerts: {sys.executable} cannot be started: {error.strerror}"]
        if hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):  # it has ended
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        if self._is_abandoned:  # just now
            process.terminate()
        _, said = process.communicate()
        self._process = None
        if not process.returncode or self._is_abandoned:
            return []
        return [line.removeprefix("Error: ") for line in said.splitlines() if line]
