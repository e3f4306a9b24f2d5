"""The messages that a target did not get while a session was recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.errors import ConfigError, DamagedSessionError
from dgrec.format import DecodeError, is_within, utc_ns
from dgrec.publishing.payload import PayloadForm, PublishedFrame, message_of
from dgrec.session import rows_of

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["Rest", "Outgoing", "rest_of"]

#: Rows that are Python values at once.
_ROWS = 256


class Outgoing(NamedTuple):
    """A message, and which frame it is of."""

    key: str
    text: bytes
    source_frame: int
    #: None if it is unknown.
    captured_ns: int | None


@dataclass(frozen=True)
class Rest:
    """What a target did not get of a session: the entry of its metadata, and the messages.

    Args:
        session_id: What messages name the session by.
    """

    session: Session
    entry: Mapping[str, Any]
    session_id: str

    @property
    def count(self) -> int:
        """How many messages there are."""
        return int((self.entry.get("messages") or 0) - (self.entry.get("delivered") or 0))

    @property
    def form(self) -> PayloadForm:
        return "full" if self.entry.get("payload") == "full" else "guide"

    def messages(self) -> Iterator[Outgoing]:
        """Yield the messages, in the order of the frames.

        Raises:
            SessionError: Part of the session cannot be read.
        """
        ranges = sorted((first, last) for first, last in self.entry.get("left_out", []))
        for batch in self.session.batches():
            left_out = batch.filter(pa.array(self._is_left_out(batch, ranges)))
            for start in range(0, left_out.num_rows, _ROWS):
                for row in rows_of(left_out.slice(start, _ROWS)):
                    yield self._message(row)

    def _is_left_out(self, rows: pa.RecordBatch, ranges: list[tuple[int, int]]) -> Any:
        numbers = pc.fill_null(rows.column("source_frame"), -1).to_numpy(zero_copy_only=False)
        found = is_within(ranges, np.asarray(numbers, np.int64))
        if "published_ms" in rows.schema.names:  # all targets have taken it
            found &= rows.column("published_ms").is_null().to_numpy(zero_copy_only=False)
        every = self.entry.get("every") or 1
        if every > 1 and not self.session.metadata.get("totals", {}).get("dropped_writer"):
            # What was not due is not noted any more in the last moment before a kill.
            found &= rows.column("frame").to_numpy() % every == 0
        return found

    def _message(self, row: Mapping[str, Any]) -> Outgoing:
        try:
            frame = PublishedFrame.of_recorded(row, self.session_id)
        except DecodeError as error:
            raise DamagedSessionError(
                f"{self.session.path}: damaged: frame {row['frame']}: {error}"
            ) from None
        captured = row["captured_at"] if row["latency_ms"] is not None else None
        return Outgoing(
            f"{self.session_id}-{frame.source_frame}",
            message_of(frame, self.form),
            frame.source_frame,
            None if captured is None else utc_ns(captured),
        )


def rest_of(session: Session, target: str, session_id: str = "") -> Rest:
    """Return what a target did not get of a session.

    Args:
        target: As it was written when it was recorded, without secrets.
        session_id: What messages name the session by, if not by its own id.

    Raises:
        ConfigError: The session was not published to it.
    """
    entries = session.metadata.get("targets", [])
    for entry in entries:
        if entry.get("target") == target:
            return Rest(session, entry, session_id or session.id)
    known = ", ".join(str(entry.get("target")) for entry in entries)
    it_was = f"it was to {known}" if known else "no target is in its metadata"
    raise ConfigError(f"{session.path}: was not published to {target} while recording; {it_was}")
