"""The messages of a recording: for its frames or for changes, and for its alerts.

The recorder and `dgrec publish` make them in the same way, in the same order, from the same rows.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from dgrec.alerts import DetectionCondition, parse_detection_condition
from dgrec.arguments import check_number, check_text
from dgrec.errors import ConfigError, value_text
from dgrec.format import Event, stamp_us
from dgrec.message import Message
from dgrec.publishing.changes import Change, Changes
from dgrec.publishing.payload import PayloadForm, PublishedFrame, json_message, message_of
from dgrec.publishing.plain_values import plain

#: Kinds of events that are alerts, and the state of the alert after each.
ALERT_KINDS = {"alert": "started", "alert_end": "ended"}


@dataclass(frozen=True, kw_only=True)
class PayloadOptions:
    """Options of what is published of a recording.

    Args:
        form: The form of a frame's payload.
        every: One in this many frames is looked at.
        where: A condition; detections for which it does not hold are left out; "": none are.
        only_changes: Send what appears, changes and ends instead of frames.
        ended_after: How many seconds something may be out of sight before it has ended.

    Raises:
        ConfigError: ``where`` is not a condition, or options contradict each other.

    Example:

        >>> import dgrec
        >>> dgrec.PayloadOptions(where="score > 0.5", only_changes=True).every
        1
    """

    form: PayloadForm = "guide"
    every: int = 1
    where: str = ""
    only_changes: bool = False
    ended_after: float = 0.0

    def __post_init__(self) -> None:
        if self.form not in get_args(PayloadForm):
            known = " and ".join(map(repr, get_args(PayloadForm)))
            raise ConfigError(f"form: {value_text(self.form)} is not one of {known}")
        check_number("every", self.every, is_whole=True)
        if self.every < 1:
            raise ConfigError(f"every: {self.every} is less than 1")
        check_number("ended_after", self.ended_after)
        if not 0 <= self.ended_after < math.inf:
            raise ConfigError(f"ended_after: {self.ended_after} is not a time in seconds")
        check_text("where", self.where)
        if self.where:
            parse_detection_condition(self.where)
        if self.only_changes and self.form != "guide":
            raise ConfigError("--only-changes has a payload of its own: leave --payload out")
        if self.ended_after and not self.only_changes:
            raise ConfigError("--ended-after belongs to --only-changes")

    @property
    def condition(self) -> DetectionCondition | None:
        return parse_detection_condition(self.where) if self.where else None


class Messages:
    """Makes the messages of a recording, whose frames and alerts it gets in their order."""

    def __init__(self, options: PayloadOptions, session: str) -> None:
        self._options = options
        self._session = session
        # It becomes part of headers; another tool may have put anything there.
        self._key = re.sub(r"[^A-Za-z0-9_.-]", "_", session)
        self._where = options.condition
        self._changes = self._new_changes()
        self._last: PublishedFrame | None = None
        #: Facts about alerts that go on, by their names.
        self._started: dict[str, dict[str, Any]] = {}

    def is_sent(self, number: int) -> bool:
        """Return whether the frame with a number (from 0, in the recording) is looked at."""
        return number % self._options.every == 0

    def frame(self, frame: PublishedFrame) -> list[Message]:
        """Return the messages of a frame that is looked at."""
        key = self._key_of(frame)
        if not self._options.only_changes:
            return [Message(key, message_of(frame, self._options.form, self._where))]
        self._last = frame
        changes = self._changes.frame(frame.detections(self._where), frame.completed_us)
        return list(self._change_messages(frame, changes, key))

    def end(self) -> list[Message]:
        """Return the messages of the end of a run: whatever is still there has ended.

        Another run may follow (``--continue``), which knows nothing of this one.
        """
        last, self._last = self._last, None
        self._started = {}
        if last is None:
            return []
        key = f"{self._key_of(last)}-end"
        ends = list(self._change_messages(last, self._changes.end(), key))
        self._changes = self._new_changes()
        return ends

    def alert(self, event: Event) -> Message:
        """Return the message of an event that is an alert (`ALERT_KINDS`)."""
        name, state = str(event.get("text") or ""), ALERT_KINDS[event["kind"]]
        if state == "started":
            self._started[name] = {
                "rule": rule if isinstance(rule := event.get("rule"), str) else None,
                "since": _seconds(event.get("from")),
                "source_frame": plain(event.get("source_frame")),
            }
        facts = self._started.get(name) or {"rule": None, "since": None, "source_frame": None}
        if state == "ended":
            self._started.pop(name, None)
        text = json_message(
            {
                "timestamp": _seconds(event.get("at")),
                "session": self._session,
                "alert": name,
                "state": state,
                **facts,
            }
        )
        # No number: each run of a recording would count from 1 again.
        at_us = stamp_us(event.get("at")) or 0
        key = f"{self._key}-alert-{at_us}-{zlib.crc32(text):08x}"
        return Message(key, text, "alert", name, ends=state == "ended")

    # --- inside ---

    def _key_of(self, frame: PublishedFrame) -> str:
        """Return what tells a frame's messages from those of others; the same in each attempt."""
        number = frame.source_frame
        return f"{self._key}-{f'row-{frame.frame}' if number is None else number}"

    def _new_changes(self) -> Changes:
        return Changes(round(self._options.ended_after * 1e6))

    def _change_messages(
        self, frame: PublishedFrame, changes: list[Change], key: str
    ) -> Iterator[Message]:
        for number, change in enumerate(changes, 1):
            text = json_message(
                {
                    "timestamp": frame.timestamp,
                    "session": self._session,
                    "source_frame": frame.source_frame,
                    "change": change.kind,
                    **change.facts,
                    "since": None if change.since_us is None else change.since_us / 1e6,
                    "last_seen": None if change.seen_us is None else change.seen_us / 1e6,
                    "objects": self._changes.objects,
                }
            )
            is_end = change.kind == "ended"
            yield Message(f"{key}-{number}", text, of=change.of, ends=is_end)


def _seconds(stamp: Any) -> float | None:
    at_us = stamp_us(stamp)
    return None if at_us is None else at_us / 1e6
