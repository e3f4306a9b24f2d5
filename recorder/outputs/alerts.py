"""Alerts while recording: noted in the session, reported, and given to a command."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dgrec.alerts import Alert, Evaluator, Rule, frame_of, parse_rules, unknown_labels
from dgrec.arguments import one_or_more
from dgrec.clock import Clock
from dgrec.errors import ConfigError, DgrecError, OutputError
from dgrec.format import Event, Row, utc_text
from dgrec.recorder.outputs.output import Output
from dgrec.recorder.outputs.publisher import AlertFeed
from dgrec.recorder.signals import usual_signals

if TYPE_CHECKING:
    from dgrec.recorder.session_writer import SessionWriter

#: How long the time without frames may go unnoticed.
_TICK_S = 0.25
#: A frame that has come may take this long to get here: a shorter pause is not silence.
_LATE_US = 1_000_000
#: The most commands that run at once: an alert that fires too often must not fill the machine.
_MOST_COMMANDS = 8
_STDERR = 2


class AlertListener(Protocol):
    """A follower of the alerts of a recording; times are those of results, in microseconds."""

    def fired(self, name: str, at_us: int) -> None: ...

    def ended(self, name: str, at_us: int) -> None: ...

    def reached(self, at_us: int) -> None:
        """All alerts until then are known."""

    def lose_track(self) -> None:
        """A rule cannot be followed any more: from here on, not all alerts will be known."""

    def finish(self) -> None:
        """No more frames will come, and all alerts are known.

        Raises:
            DgrecError: Its message is noted in the session.
        """


def parse_command(text: str) -> list[str]:
    """Return a program and its arguments, as a shell would split them; "" is none.

    Raises:
        ConfigError: There is no such program, or a quote is open.
    """
    try:
        command = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"--on-alert {text!r}: {error}") from None
    if command and shutil.which(command[0]) is None:
        raise ConfigError(f"--on-alert {command[0]}: no such program")
    return command


class Alerts(Output):
    """Follows rules over a recording.

    Args:
        rules: A rule (``"crowd=count('person') >= 3"``), a YAML file of events, or several.
        note: Puts an event into the session; called in this output's threads. None: it goes into
            the session that is watched.
        clock: The recording's clock; None: a new one, which is set when the recording begins.
        say: Reports a line.
        command: A program and its arguments, or a text that is split as a shell would; started
            for each alert that fires, with the alert in its environment (``DGREC_ALERT``,
            ``DGREC_ALERT_RULE``, ``DGREC_ALERT_AT``), never through a shell. What it prints goes
            to standard error.
        feed: Gets the events as well, for the outputs that publish them.
        listeners: Followers of the alerts; called in this output's threads.

    Raises:
        ConfigError: One is not a rule, a file cannot be read, or two have the same name.

    Example:

        >>> import dgrec
        >>> alerts = dgrec.Alerts("cats=count('cat') > 0")
        >>> with dgrec.Recorder("cats.parquet", outputs=alerts) as recorder:
        ...     recorder.add([{"label": "cat", "score": 0.9, "bbox": [10.0, 20.0, 110.0, 70.0]}])
        >>> with dgrec.open("cats.parquet") as session:
        ...     [event["text"] for event in session.metadata["events"]]
        ['cats']
    """

    name = "alerts"
    adds_events = True
    #: Rows are small; none may be missed.
    capacity = 100_000

    def __init__(
        self,
        rules: Rule | str | Sequence[Rule | str],
        note: Callable[[Event], None] | None = None,
        clock: Clock | None = None,
        say: Callable[[str], None] = lambda line: None,
        command: str | Sequence[str] = (),
        feed: AlertFeed | None = None,
        listeners: Sequence[AlertListener] = (),
    ) -> None:
        parsed = parse_rules(one_or_more("rules", rules, "a rule", Rule))
        self._listeners = listeners
        self._rules = {rule.name: rule for rule in parsed}
        self._evaluator = Evaluator(parsed, self._changed, self._failed)
        self._note, self._clock, self._say = note, clock, say
        self._command = parse_command(command) if isinstance(command, str) else list(command)
        self._feed = feed or AlertFeed()
        self._running: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._writer: SessionWriter | None = None
        #: When the result of the last frame came.
        self._newest_ns = 0
        self._is_closing = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="dgrec-alerts", daemon=True)

    def watch(self, writer: SessionWriter) -> None:
        self._writer = writer
        self._note = self._note or writer.note
        self._clock = self._clock or Clock()

    def start(self, metadata: Any) -> None:
        for name, reason in unknown_labels([*self._rules.values()], metadata):
            self._say(f"alert {name}: {reason}")
        if any(rule.missing_s for rule in self._rules.values()):
            self._ticker.start()

    def frame(self, row: Row, result: Any) -> None:
        with self._lock:
            self._newest_ns = row.completed_ns
            try:
                frame = frame_of(row, with_added=self._evaluator.wants_added)
                self._evaluator.frame(frame, row.source_frame)
            except BaseException:
                self._lose_track()
                raise
            for listener in self._listeners:
                listener.reached(row.completed_ns // 1000)
        self._feed.reached(row.completed_ns // 1000)

    def close(self) -> None:
        self._is_closing.set()
        if self._ticker.is_alive():
            self._ticker.join()
        try:
            if self._writer is not None and self._writer.ended_ns is not None:
                self._evaluator.until(self._writer.ended_ns // 1000)
        finally:
            self._feed.end()
        problems = []
        for listener in self._listeners:
            try:
                listener.finish()
            except DgrecError as error:
                problems.append(str(error))
        if problems:
            raise OutputError("; ".join(problems))

    # --- inside ---

    def _tick(self) -> None:
        while not self._is_closing.wait(_TICK_S):
            self._look()

    def _look(self) -> None:
        """Take notice of the time without frames."""
        if self._clock is None:
            return
        now_us = self._clock.now_ns() // 1000
        with self._lock:
            if self._writer is None or self._writer.newest_ns <= self._newest_ns:
                self._evaluator.until(now_us - _LATE_US)

    def _failed(self, name: str, reason: str) -> None:
        self._say(f"alert {name}: {reason}")
        self._lose_track()

    def _lose_track(self) -> None:
        for listener in self._listeners:
            listener.lose_track()

    def _changed(self, alert: Alert) -> None:
        rule = self._rules[alert.name]
        for listener in self._listeners:
            if alert.ended_us is not None:
                listener.ended(alert.name, alert.ended_us)
            else:
                listener.fired(alert.name, alert.fired_us)
        if alert.ended_us is not None:
            self._report(
                {"kind": "alert_end", "at": utc_text(alert.ended_us * 1000), "text": alert.name}
            )
            self._say(f"alert {alert.name}: over")
            return
        event: Event = {
            "kind": "alert",
            "from": utc_text(alert.since_us * 1000),
            "at": utc_text(alert.fired_us * 1000),
            "text": alert.name,
            "rule": rule.text,
        }
        if alert.source_frame is not None:
            event["source_frame"] = alert.source_frame
        self._report(event)
        self._say(f"alert {alert.name}: {rule.text}")
        self._run(alert, rule)

    def _report(self, event: Event) -> None:
        self._feed.add(event)
        if self._note is not None:
            self._note(event)

    def _run(self, alert: Alert, rule: Rule) -> None:
        if not self._command:
            return
        self._running = [each for each in self._running if each.poll() is None]
        if len(self._running) >= _MOST_COMMANDS:
            self._say(f"alert {alert.name}: {_MOST_COMMANDS} commands still run; none is started")
            return
        facts = {
            "DGREC_ALERT": alert.name,
            "DGREC_ALERT_RULE": rule.text,
            "DGREC_ALERT_AT": utc_text(alert.fired_us * 1000),
        }
        try:
            # A session of its own: Ctrl-C is meant for the recording.
            with usual_signals():
                process = subprocess.Popen(
                    self._command,
                    env={**os.environ, **facts},
                    stdin=subprocess.DEVNULL,
                    stdout=_standard_error(),
                    start_new_session=True,
                )
            self._running.append(process)
        except OSError as error:
            self._say(f"--on-alert {self._command[0]}: cannot be started: {error.strerror}")


def _standard_error() -> int:
    """Return where commands print: standard output may carry published messages, or JSON."""
    if sys.__stderr__ is None:  # closed when this program began: another file may have its number
        return subprocess.DEVNULL
    try:
        os.fstat(_STDERR)
    except OSError:  # closed since
        return subprocess.DEVNULL
    return _STDERR
