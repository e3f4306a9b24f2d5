"""Publishes a recorded session, at the pace at which it was recorded or faster."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from dgrec.errors import ConfigError
from dgrec.format import DecodeError, stamp_us
from dgrec.message import Message
from dgrec.publishing import (
    ALERT_KINDS,
    Device,
    Messages,
    PayloadOptions,
    PublishedFrame,
    TargetAddress,
    check_target,
    distinct_names,
    missed_messages_of,
    open_target,
)
from dgrec.replay.events import source_events
from dgrec.session import Session, damaged_frame, each_row, restarts


def publish(
    session: Session,
    addresses: Sequence[TargetAddress],
    options: PayloadOptions | None = None,
    *,
    discovery: bool = False,
    speed: float | None = 1.0,
    on_wait: Callable[[str], None] | None = None,
) -> list[int]:
    """Send the messages of a session to each target; return how many each of them got.

    Args:
        options: What is sent.
        discovery: Introduce the session to Home Assistant, at each broker.
        speed: How much faster than recorded; None: as fast as the targets take it.
        on_wait: Called with a line when a target is away, and is waited for.

    Raises:
        ConfigError: A target is named twice, or cannot be used.
        OutputError: A target takes no more, or did not get all of it.
        SessionError: Part of the session cannot be read.
    """
    if any(addresses.count(address) > 1 for address in addresses):
        raise ConfigError("a target is named twice")
    for address in addresses:
        if not address.scheme:
            check_target(address.path, Path(session.path))
    names = _names(session)
    options = options or PayloadOptions()
    device = _device(session, names["source"], options) if discovery else None
    with ExitStack() as stack:
        targets = [
            stack.enter_context(open_target(each, names, waits=True, device=device))
            for each in addresses
        ]
        for target in targets:
            target.on_wait = on_wait
            target.wait_for_client()
        pace = _Pace(speed)
        for due_us, message in _messages(session, options):
            pace.wait(due_us)
            for target in targets:
                target.send(message)
    return [target.delivered for target in targets]


def publish_missing(
    session: Session,
    addresses: Sequence[TargetAddress],
    *,
    on_wait: Callable[[str], None] | None = None,
) -> list[int]:
    """Send each target what it did not get while the session was recorded, as fast as it takes it.

    Returns how many messages each of them got.

    Raises:
        ConfigError: The session was not published to a target, or is still being recorded.
        OutputError: A target takes no more, or did not get all of it.
        SessionError: Part of the session cannot be read.
    """
    if session.ended_at is None and len(session):
        raise ConfigError(f"{session.path}: is still being recorded; --missing is for afterwards")
    rests = [missed_messages_of(session, name) for name in _recorded_names(session, addresses)]
    counts = []
    for address, rest in zip(addresses, rests, strict=True):
        frames = rest.frames()
        first = next(frames, None)
        if first is None:  # nothing to send, and the target may be away
            counts.append(0)
            continue
        with open_target(address, _names(session), waits=True) as target:
            target.on_wait = on_wait
            target.wait_for_client()
            for frame in itertools.chain([first], frames):
                for message in frame.messages:
                    target.send(message)
        counts.append(target.delivered)
    return counts


def _recorded_names(session: Session, addresses: Sequence[TargetAddress]) -> list[str]:
    """Return the names that targets have in the metadata of a session.

    Raises:
        ConfigError: Not all of several targets that look the same without secrets are named.
    """
    names = distinct_names(address.given for address in addresses)
    recorded = [str(entry.get("target")) for entry in session.metadata.get("targets", [])]
    for address in addresses:
        alike = [each for each in recorded if each.partition("#")[0] == address.given]
        if address.scheme and not {*alike} <= {*names}:
            raise ConfigError(
                f"{session.path}: was published to {len(alike)} targets that are {address.given} "
                "without what is secret; name all of them, in the order of the recording"
            )
    return names


class _Pace:
    """Waits until the time of a message has come."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._began: tuple[float, int] | None = None

    def wait(self, due_us: int | None) -> None:
        if self._speed is None or due_us is None:
            return
        if self._began is None:
            self._began = time.monotonic(), due_us
        began_s, first_us = self._began
        due_s = began_s + (due_us - first_us) / 1e6 / self._speed
        time.sleep(max(0.0, due_s - time.monotonic()))


def _messages(session: Session, options: PayloadOptions) -> Iterator[tuple[int | None, Message]]:
    """Yield the messages of a session, each with the time at which it was sent."""
    messages = Messages(options, session.id)
    alerts = deque(each for each in source_events(session) if each.get("kind") in ALERT_KINDS)
    last_us: int | None = None
    runs = deque(restarts(source_events(session)))
    for number, frame in _frames(session):
        while runs and runs[0].began_by(frame.source_frame, frame.completed_us):
            began_us = runs.popleft().began_us or 0
            while alerts and (stamp_us(alerts[0].get("at")) or 0) < began_us:
                event = alerts.popleft()
                yield stamp_us(event.get("at")), messages.alert(event)
            yield from ((last_us, each) for each in messages.end())
        last_us = frame.completed_us
        # An alert comes before the frame that brings it, as it did while recording.
        while alerts and last_us is not None and (stamp_us(alerts[0].get("at")) or 0) <= last_us:
            event = alerts.popleft()
            yield stamp_us(event.get("at")), messages.alert(event)
        if messages.is_sent(number):
            yield from ((last_us, each) for each in messages.frame(frame))
    yield from ((stamp_us(event.get("at")), messages.alert(event)) for event in alerts)
    yield from ((last_us, each) for each in messages.end())


def _device(session: Session, source: str, options: PayloadOptions) -> Device:
    fired = (each.get("text") for each in source_events(session) if each.get("kind") == "alert")
    names = tuple(dict.fromkeys(str(name) for name in fired if name))
    return Device(source, str(session.metadata.get("model", {}).get("name") or ""), names, options)


def _frames(session: Session) -> Iterator[tuple[int, PublishedFrame]]:
    """Yield each frame with its number in the recording."""
    for batch in session.batches():
        for row in each_row(batch):
            try:
                yield row["frame"], PublishedFrame.of_recorded(row, session.id)
            except DecodeError as error:
                raise damaged_frame(session.path, row, error) from None


def _names(session: Session) -> dict[str, str]:
    source = session.metadata.get("source", {})
    name = str(source.get("name") or source.get("given") or "")
    return {"session": session.path.stem, "source": name}
