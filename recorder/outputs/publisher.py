"""Publishes a recording while it goes on."""

from __future__ import annotations

import threading
from typing import Any

from dgrec.format import Event, Metadata, Row
from dgrec.message import Message
from dgrec.publishing import (
    ALERT_KINDS,
    Messages,
    PayloadOptions,
    PublishedFrame,
    Target,
    event_us,
)
from dgrec.recorder.outputs.output import Output

__all__ = ["AlertFeed", "Publisher"]


class AlertFeed:
    """The alerts of a recording, for those that publish them in their place between frames.

    Rules are followed in a thread of their own, so whoever publishes a frame waits until its
    alerts are known: a recording that is published later then gives the same order.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._reached_us = 0
        self._has_ended = False

    # --- for what follows the rules ---

    def add(self, event: Event) -> None:
        with self._changed:
            self._events.append(event)

    def reached(self, stamp_us: int) -> None:
        """All alerts until then have been added."""
        with self._changed:
            self._reached_us = max(self._reached_us, stamp_us)
            self._changed.notify_all()

    def end(self) -> None:
        """There are no more to come."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    # --- for publishers ---

    def after(self, count: int, until_us: int | None) -> list[Event]:
        """Return the alerts until a frame, but for the first ``count``; wait until they are known.

        Args:
            until_us: When the frame's result came out; None: all alerts of the recording.
        """
        with self._changed:
            while not self._has_ended and (until_us is None or self._reached_us < until_us):
                self._changed.wait()
            return self._due(count, until_us)

    def known(self, count: int, until_us: int) -> list[Event]:
        """Return the alerts until then as far as they are known."""
        with self._changed:
            return self._due(count, until_us)

    def _due(self, count: int, until_us: int | None) -> list[Event]:
        due = []
        for event in self._events[count:]:
            if until_us is not None and (event_us(event) or 0) > until_us:
                break
            due.append(event)
        return due


class Publisher(Output):
    """Sends messages of a recording to a target.

    A recording waits only for files and standard output, and only where it can: for other targets
    the oldest frames are left out, and counted.

    Args:
        target: It is closed at the end.
        options: What is sent.
        alerts: The alerts of the recording, which are sent as well.
        waits: Wait for any target, where the source can wait.
    """

    def __init__(
        self,
        target: Target,
        options: PayloadOptions | None = None,
        *,
        alerts: AlertFeed | None = None,
        waits: bool = False,
    ) -> None:
        self.name = target.name
        self.is_waited_for = waits or target.is_waited_for
        self._target = target
        self._options = options or PayloadOptions()
        self._alerts = alerts
        self._alert_count = 0
        self._session = ""
        self._messages = Messages(self._options, "")
        self._has_failed = False

    @property
    def delivered(self) -> int:
        """How many messages have arrived, as far as the target says so."""
        return self._target.delivered

    def start(self, metadata: Metadata) -> None:
        self._session = str(metadata.get("session_id") or "")
        self._messages = Messages(self._options, self._session)

    def frame(self, row: Row, result: Any) -> None:
        if self._alerts is not None:
            self._send_alerts(self._alerts.after(self._alert_count, row.completed_ns // 1000))
        if not self._messages.is_sent():
            return
        for message in self._messages.frame(PublishedFrame.of_row(row, self._session)):
            self._send(message)

    def event(self, event: Event) -> None:
        # One that no frame brings, since none comes; or that was sent with its frame.
        if self._alerts is not None and event["kind"] in ALERT_KINDS:
            self._send_alerts(self._alerts.known(self._alert_count, event_us(event) or 0))

    def close(self) -> None:
        try:
            if not self._has_failed:
                if self._alerts is not None:
                    self._send_alerts(self._alerts.after(self._alert_count, None))
                for message in self._messages.end():
                    self._send(message)
        finally:
            self._target.close()

    # --- inside ---

    def _send_alerts(self, events: list[Event]) -> None:
        for event in events:
            self._alert_count += 1
            self._send(self._messages.alert(event))

    def _send(self, message: Message) -> None:
        self._has_failed = True  # until it has been taken
        self._target.send(message)
        self._has_failed = False
