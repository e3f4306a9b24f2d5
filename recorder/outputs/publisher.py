"""Publishes the frames of a recording while it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dgrec.format import Delivery, Metadata, Row, delivery_ticks
from dgrec.publishing import PayloadForm, PublishedFrame, Target, message_of
from dgrec.recorder.outputs.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from dgrec.recorder.session_writer import SessionWriter

__all__ = ["Publisher"]

#: Messages of which it is not known whether they have arrived. No target has as many on their way:
#: older ones are left out for good.
_MOST_OPEN: Final = 8192


class Publisher(Output):
    """Sends a message of each frame to a target.

    A recording waits only for files and standard output, and only where it can: for other targets
    the oldest frames are left out, and counted. The session says what the target took of which
    frame, and when.

    Args:
        target: It is closed at the end.
        form: What is sent of a frame.
        every: Of as many frames one is sent.
        waits: Wait for any target, where the source can wait.
        reopen: Opens the target again at the end, for what it did not get while recording.
    """

    def __init__(
        self,
        target: Target,
        form: PayloadForm = "guide",
        *,
        every: int = 1,
        waits: bool = False,
        reopen: Callable[[], Target] | None = None,
    ) -> None:
        self.name = target.name
        self.is_waited_for = waits or target.is_waited_for
        self.reopen = reopen
        self._target = target
        self._form: PayloadForm = form
        self._every = every
        self._count = 0
        self._session = ""
        self._writer: SessionWriter | None = None
        #: Its place in the metadata's ``targets``.
        self.number = 0
        #: Of each message on its way the number of its frame, and when that was captured.
        self._open: dict[str, tuple[int, int | None]] = {}
        target.on_taken = self._taken

    @property
    def delivered(self) -> int:
        """How many messages have arrived, as far as the target says so."""
        return self._target.delivered

    @property
    def publishes(self) -> Metadata:
        return {"target": self.name, "payload": self._form, "every": self._every}

    def watch(self, writer: SessionWriter) -> None:
        self._writer = writer
        self._count = writer.first_frame
        self.number = writer.number_of(self)

    def wants(self, row: Row) -> bool:
        is_due = self._count % self._every == 0
        self._count += 1
        if not is_due and self._writer is not None:
            self._writer.deliver(Delivery.not_due(self.number, row.source_frame))
        return is_due

    def start(self, metadata: Metadata) -> None:
        self._session = str(metadata.get("session_id") or "")

    def frame(self, row: Row, result: Any) -> None:
        message = message_of(PublishedFrame.of_row(row, self._session), self._form)
        key = f"{self._session}-{row.source_frame}"
        captured_ns = row.captured_ns if row.is_capture_known else None
        self._open[key] = row.source_frame, captured_ns
        if len(self._open) > _MOST_OPEN:
            self._open.pop(next(iter(self._open)), None)
        self._target.send(message, key)

    def close(self) -> None:
        self._target.close()

    def _taken(self, key: str) -> None:
        """Called by the target, in any thread."""
        found = self._open.pop(key, None)
        if found is None or self._writer is None:
            return
        source_frame, captured_ns = found
        ticks = delivery_ticks(captured_ns, self._writer.now_ns())
        self._writer.deliver(Delivery(self.number, source_frame, ticks))
