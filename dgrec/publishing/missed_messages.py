"""The messages that a target did not get while a session was recorded."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dgrec import compute as pc
from dgrec.errors import ConfigError
from dgrec.format import DecodeError, has_all_frames, is_within, utc_ns
from dgrec.message import Message
from dgrec.publishing.messages import Messages, PayloadOptions
from dgrec.publishing.payload import PublishedFrame
from dgrec.session import Session, damaged_frame, each_row, restarts


class Outgoing(NamedTuple):
    """The messages of a frame, none if nothing changed in it.

    Args:
        captured_ns: None if it is unknown.
        is_end: They are of the end of a run, whose last frame this is, not of the frame itself.
    """

    source_frame: int
    captured_ns: int | None
    messages: list[Message]
    is_end: bool = False


@dataclass(frozen=True)
class MissedMessages:
    """The messages of a session that a target did not get.

    Args:
        entry: The session's entry for the target.
        session_id: The id by which messages name the session.
    """

    session: Session
    entry: Mapping[str, Any]
    session_id: str

    def frames(self) -> Iterator[Outgoing]:
        """Yield the messages of each frame, in order, where the target did not get all of them.

        Raises:
            ConfigError: This version of dgrec cannot send what was sent to it.
            SessionError: Part of the session cannot be read.
        """
        made: Messages | None = None
        last: Outgoing | None = None
        runs = restarts(self.session.metadata.get("events", []))
        ended = deque(sorted(self.entry.get("ended", [])))
        for options, row, is_left_out in self._rows():
            frame = self._frame(row)
            while runs and runs[0].began_by(frame.source_frame, frame.completed_us):
                yield from _ends(made, last, ended, runs.pop(0).source_frame)
                made = last = None
            made = made or Messages(options, self.session_id)
            captured = row["captured_at"] if row["latency_ms"] is not None else None
            captured_ns = None if captured is None else utc_ns(captured)
            number = -1 if frame.source_frame is None else frame.source_frame  # in no range
            last = Outgoing(number, captured_ns, made.frame(frame))
            if is_left_out and last.messages:
                yield last
        yield from _ends(made, last, ended)

    def _options(self) -> Iterator[tuple[int, PayloadOptions | None]]:
        """Yield a first frame and the options from there on: each run may have its own."""
        if not self.session.parts:
            yield 0, _options_of(self.entry)
        for part in self.session.parts:
            entries = part.metadata.get("targets", [])
            found = (each for each in entries if each.get("target") == self.entry.get("target"))
            yield part.first_frame, next(map(_options_of, found), None)

    def _rows(self) -> Iterator[tuple[PayloadOptions, Mapping[str, Any], bool]]:
        """Yield the rows that messages are made from, and whether the target lacks them."""
        ranges = sorted((first, last) for first, last in self.entry.get("left_out", []))
        chosen = [*self._options()]
        if not ranges and not any(options and options.only_changes for _, options in chosen):
            return
        for batch in self.session.batches():
            first_frame = batch.column("frame")[0].as_py() or 0 if batch.num_rows else 0
            options = next((o for first, o in reversed(chosen) if first <= first_frame), None)
            if options is None:
                continue
            is_left_out = self._is_left_out(batch, ranges, options.every)
            # Changes depend on the frames before.
            wanted = self._is_due(batch, options.every) if options.only_changes else is_left_out
            rows, marks = batch.filter(pa.array(wanted)), is_left_out[wanted].tolist()
            for row, mark in zip(each_row(rows), marks, strict=True):
                yield options, row, mark

    def _is_left_out(self, rows: pa.RecordBatch, ranges: list[tuple[int, int]], every: int) -> Any:
        numbers = pc.fill_null(rows.column("source_frame"), -1).to_numpy(zero_copy_only=False)
        found = is_within(ranges, np.asarray(numbers, np.int64))
        if "published_ms" in rows.schema.names:  # all targets have taken it
            found &= rows.column("published_ms").is_null().to_numpy(zero_copy_only=False)
        # What was not due is not noted any more in the last moment before a kill.
        return found & self._is_due(rows, every)

    def _is_due(self, rows: pa.RecordBatch, every: int) -> Any:
        if not has_all_frames(self.session.metadata):
            # Rows that are missing now were counted, too: any row may have been due.
            return np.ones(rows.num_rows, np.bool_)
        return rows.column("frame").to_numpy() % every == 0

    def _frame(self, row: Mapping[str, Any]) -> PublishedFrame:
        try:
            return PublishedFrame.of_recorded(row, self.session_id)
        except DecodeError as error:
            raise damaged_frame(self.session.path, row, error) from None


def _options_of(entry: Mapping[str, Any]) -> PayloadOptions:
    return PayloadOptions(
        form="full" if entry.get("payload") == "full" else "guide",
        every=entry.get("every") or 1,
        where=entry.get("where") or "",
        only_changes=bool(entry.get("only_changes")),
        ended_after=entry.get("ended_after") or 0.0,
    )


def _ends(
    made: Messages | None, last: Outgoing | None, ended: deque[int], before: float = math.inf
) -> Iterator[Outgoing]:
    """Yield the messages of the end of a run, if the target lacks them.

    Args:
        ended: The last frames of runs whose end the target has, from this run on.
        before: The first frame of the next run.
    """
    has_them = False
    while ended and ended[0] < before:
        ended.popleft()
        has_them = True
    messages = made.end() if made is not None else []
    if last is not None and messages and not has_them:
        yield last._replace(messages=messages, is_end=True)


def missed_messages_of(session: Session, target: str, session_id: str = "") -> MissedMessages:
    """Return the messages of a session that a target did not get.

    Args:
        target: As it was written when it was recorded, without secrets.
        session_id: The id by which messages name the session, if not its own.

    Raises:
        ConfigError: The session was not published to it.
    """
    entries = session.metadata.get("targets", [])
    for entry in entries:
        if entry.get("target") == target:
            return MissedMessages(session, entry, session_id or session.id)
    known = ", ".join(str(entry.get("target")) for entry in entries)
    it_was = f"it was to {known}" if known else "no target is in its metadata"
    raise ConfigError(f"{session.path}: was not published to {target} while recording; {it_was}")
