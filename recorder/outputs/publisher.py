"""Publishes a recording while it goes on."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dgrec.arguments import check_text, given_path
from dgrec.errors import ConfigError, OutputError, value_text
from dgrec.format import Delivery, Event, Metadata, Row, delivery_ticks, stamp_us
from dgrec.message import Message
from dgrec.publishing import (
    ALERT_KINDS,
    Messages,
    Outgoing,
    PayloadOptions,
    PublishedFrame,
    Target,
    check_target,
    open_target,
    parse_target,
)
from dgrec.recorder.outputs.output import Output

if TYPE_CHECKING:
    from dgrec.recorder.session_writer import SessionWriter

#: The most messages that are not known to have arrived. No target has that many on their way: older
#: ones are left out for good.
_MOST_OPEN: Final = 8192
#: Events of alerts that are kept for publishers.
_MOST_ALERTS: Final = 50_000


class _Numbered(NamedTuple):
    """An event of an alert, with its number among all of the recording's."""

    number: int
    event: Event


class AlertFeed:
    """The alerts of a recording, for publishers, which send them in order between frames.

    Rules are followed in a thread of their own, so a publisher holds a frame until its alerts are
    known: a recording that is published later then gives the same order. The newest alerts are
    kept, far more than belong to the frames that may wait for a publisher.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: deque[_Numbered] = deque(maxlen=_MOST_ALERTS)
        self._count = 0
        self._reached_us = 0
        self._has_ended = False

    # --- for the output that follows the rules ---

    def add(self, event: Event) -> None:
        with self._changed:
            self._events.append(_Numbered(self._count, event))
            self._count += 1

    def reached(self, stamp_us: int) -> None:
        """All alerts until then have been added."""
        with self._changed:
            self._reached_us = max(self._reached_us, stamp_us)
            self._changed.notify_all()

    def end(self) -> None:
        """No more alerts will come."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    # --- for publishers ---

    def after(self, count: int, until_us: int | None) -> list[_Numbered]:
        """Return the alerts until a frame, but for the first ``count``; wait until they are known.

        Args:
            until_us: When the frame's result came out; None: all alerts of the recording.
        """
        with self._changed:
            while not self._has_ended and (until_us is None or self._reached_us < until_us):
                self._changed.wait()
            return self._due(count, until_us)

    def known(self, count: int, until_us: int) -> list[_Numbered]:
        """Return the alerts until ``until_us`` that are known so far."""
        with self._changed:
            return self._due(count, until_us)

    def _due(self, count: int, until_us: int | None) -> list[_Numbered]:
        due = []
        skipped = max(0, len(self._events) - (self._count - count))
        for each in itertools.islice(self._events, skipped, None):
            if until_us is not None and (stamp_us(each.event.get("at")) or 0) > until_us:
                break
            due.append(each)
        return due


@dataclass(slots=True)
class _OnTheWay:
    """A frame, and how many of its messages have not arrived."""

    frame: Outgoing
    left: int


def _opened(text: str, names: Mapping[str, str]) -> Target:
    check_text("target", text)
    for name, value in names.items():
        check_text(f"names: {name}", value)
    address = parse_target(text)
    if not address.scheme:
        given_path("target", address.path, OutputError)
        check_target(address.path)
    return open_target(address, names)


class Publisher(Output):
    """Sends messages of a recording to a target.

    A recording waits only for files and standard output, and only where it can: for other targets
    the oldest frames are left out, and counted. The session says what the target took of which
    frame, and when.

    Args:
        target: As ``--publish`` takes it: ``"-"``, a file, ``"mqtt://HOST/TOPIC"``, a URL; or an
            open target. It is closed at the end.
        options: What is sent; by default what DeGirum's guide sends of each frame.
        names: What ``{source}`` and ``{session}`` in a topic or path stand for.
        alerts: The alerts of the recording, which are sent as well.
        waits: Wait for any target, where the source can wait.
        reopen: Opens the target again at the end, for what it did not get while recording.

    Raises:
        ConfigError: ``target`` is not one, a name in it is not given, or a library is missing.
        OutputError: A file cannot be opened or holds something else than published lines, or an
            address cannot be served.

    Example:

        >>> import dgrec, json, pathlib
        >>> options = dgrec.PayloadOptions(where="score > 0.5")
        >>> publisher = dgrec.Publisher("found.jsonl", options)
        >>> with dgrec.Recorder("published.parquet", outputs=publisher) as recorder:
        ...     recorder.add([{"label": "cat", "score": 0.9, "bbox": [10.0, 20.0, 110.0, 70.0]}])
        >>> json.loads(pathlib.Path("found.jsonl").read_text())["detections"]
        [{'label': 'cat', 'score': 0.9, 'bbox': [10.0, 20.0, 110.0, 70.0]}]
    """

    def __init__(
        self,
        target: Target | str,
        options: PayloadOptions | None = None,
        *,
        names: Mapping[str, str] | None = None,
        alerts: AlertFeed | None = None,
        waits: bool = False,
        reopen: Callable[[], Target] | None = None,
    ) -> None:
        if not isinstance(options, PayloadOptions | None):
            raise ConfigError(f"options: {value_text(options)} is not dgrec.PayloadOptions")
        if not isinstance(target, Target):
            target = _opened(target, names or {})
        self.name = target.name
        self.is_waited_for = waits or target.is_waited_for
        self.reopen = reopen
        self._target = target
        #: The target, opened again at the end. This output's thread, if it was left behind, may
        #: still use the first one.
        self._again: Target | None = None
        self._options = options or PayloadOptions()
        self._writer: SessionWriter | None = None
        #: Its place in the metadata's ``targets``.
        self._number = 0
        #: Counts of frames: recorded, due (the end is one more), and those of which the target has
        #: all messages.
        self._count = self._due = self._taken_frames = 0
        #: The first frame of this run: later, a target may get some of earlier runs, too.
        self._first_frame: int | None = None
        #: Frames on their way, by the key of each of their messages.
        self._open: OrderedDict[str, _OnTheWay] = OrderedDict()
        target.on_taken = self._taken
        self._alerts = alerts
        self._alert_count = 0
        self.begin("")
        #: The messages of the end, if there are any, once it has come.
        self._end: Outgoing | None = None
        self._has_failed = False

    @property
    def delivered(self) -> int:
        """The number of messages that have arrived, as far as the target says so."""
        again = self._again
        return self._target.delivered + (0 if again is None else again.delivered)

    @property
    def missing(self) -> int:
        """The number of frames of which the target does not have all messages."""
        return self._due - self._taken_frames

    @property
    def described(self) -> Metadata:
        """Its entry in the metadata's ``targets``, as it is known at the start."""
        options = self._options
        entry: Metadata = {"target": self.name, "every": options.every}
        if options.where:
            entry["where"] = options.where
        if options.only_changes:
            return {**entry, "only_changes": True, "ended_after": options.ended_after}
        return {**entry, "payload": options.form}

    def watch(self, writer: SessionWriter) -> None:
        self._writer = writer
        self._count = writer.first_frame
        self._number = writer.targets.number_of(self)
        self.begin(writer.set_id)

    def begin(self, session_id: str) -> None:
        """Name the session by this id in messages."""
        self._session = session_id
        #: For the recording's thread, and for that of this output.
        self._frames, self._others = (Messages(self._options, session_id) for _ in range(2))
        #: The messages of the newest frame, if changes are sent.
        self._newest: Outgoing | None = None

    # --- in the recording's thread ---

    def wants(self, row: Row) -> bool:
        if self._first_frame is None:
            self._first_frame = row.source_frame
        is_due = self._frames.is_sent(self._count)
        self._count += 1
        if is_due and self._options.only_changes:
            # For all frames, even if the target is too slow or dead: later messages say what has
            # changed since then, and the missing ones are counted.
            self._newest = self._outgoing(row, self._frames)
            is_due = bool(self._newest.messages)
        if is_due:
            self._due += 1
        else:
            self._record(Delivery.not_due(self._number, row.source_frame))
        return is_due

    def result_for(self, row: Row, result: Any) -> Outgoing | None:
        return self._newest

    def end_of_frames(self) -> None:
        if self._newest is not None and (messages := self._frames.end()):
            self._due += 1
            self._record(Delivery.end_due(self._number, self._newest.source_frame))
            self._end = self._newest._replace(messages=messages, is_end=True)

    # --- in the output's thread ---

    def frame(self, row: Row, result: Outgoing | None) -> None:
        if self._alerts is not None:
            self._send_alerts(self._alerts.after(self._alert_count, row.completed_ns // 1000))
        self.send(result or self._outgoing(row, self._others))

    def event(self, event: Event) -> None:
        # An alert that no frame brings, since none comes; or one that was sent with its frame.
        if self._alerts is not None and event["kind"] in ALERT_KINDS:
            self._send_alerts(self._alerts.known(self._alert_count, stamp_us(event.get("at")) or 0))

    def give_up(self) -> None:
        self._target.give_up()

    def close(self) -> None:
        try:
            if not self._has_failed:
                if self._alerts is not None:
                    self._send_alerts(self._alerts.after(self._alert_count, None))
                if self._end is not None:
                    self.send(self._end)
        finally:
            self._target.close()

    # --- messages that the target did not get ---

    def open_again(self) -> Target:
        """Open the target again, after `close`.

        Raises:
            DgrecError: It cannot be opened.
        """
        assert self.reopen is not None
        target = self.reopen()
        target.on_taken = self._taken
        self._again = target
        return target

    def send_again(self, frame: Outgoing) -> None:
        """Send the messages of a frame to the target that was opened again."""
        assert self._again is not None
        self._expect(frame)
        for message in frame.messages:
            self._again.send(message)

    def send(self, frame: Outgoing) -> None:
        """Send the messages of a frame; what the target takes of them is recorded."""
        self._expect(frame)
        for message in frame.messages:
            self._send(message)

    # --- inside ---

    def _expect(self, frame: Outgoing) -> None:
        on_the_way = _OnTheWay(frame, len(frame.messages))
        for message in frame.messages:
            self._open[message.key] = on_the_way
        while len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)

    def _outgoing(self, row: Row, messages: Messages) -> Outgoing:
        captured_ns = row.captured_ns if row.is_capture_known else None
        made = messages.frame(PublishedFrame.of_row(row, self._session))
        return Outgoing(row.source_frame, captured_ns, made)

    def _record(self, delivery: Delivery) -> None:
        if self._writer is not None:
            self._writer.targets.add(delivery)

    def _taken(self, key: str) -> None:
        """Called by the target, in any thread."""
        found = self._open.pop(key, None)
        if found is None or self._writer is None:
            return
        found.left -= 1
        if not found.left:
            number, captured_ns, _, is_end = found.frame
            if self._first_frame is not None and number >= self._first_frame:
                self._taken_frames += 1
            if is_end:
                self._record(Delivery.end_taken(self._number, number))
            else:
                ticks = delivery_ticks(captured_ns, self._writer.now_ns())
                self._record(Delivery(self._number, number, ticks))

    def _send_alerts(self, events: list[_Numbered]) -> None:
        for number, event in events:
            self._alert_count = number + 1
            self._send(self._others.alert(event))

    def _send(self, message: Message) -> None:
        self._has_failed = True  # until it has been taken
        self._target.send(message)
        self._has_failed = False
