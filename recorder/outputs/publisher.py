"""Publishes the frames of a recording while it goes on."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from dgrec.format import Delivery, Metadata, Row, delivery_ticks
from dgrec.publishing import (
    Outgoing,
    PayloadForm,
    PublishedFrame,
    Target,
    message_of,
    open_target,
    parse_target,
)
from dgrec.recorder.outputs.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dgrec.recorder.job import RecordRequest
    from dgrec.recorder.session_writer import SessionWriter

__all__ = ["Publisher", "open_publishers"]

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
        self._messages = 0
        #: By the target as it was opened first.
        self._delivered_before = 0
        self._writer: SessionWriter | None = None
        #: Its place in the metadata's ``targets``.
        self.number = 0
        #: Of each message on its way the number of its frame, and when that was captured.
        self._open: OrderedDict[str, tuple[int, int | None]] = OrderedDict()
        target.on_taken = self._taken

    @property
    def delivered(self) -> int:
        """How many messages have arrived, as far as the target says so."""
        return self._delivered_before + self._target.delivered

    @property
    def missing(self) -> int:
        """How many messages have not arrived."""
        return self._messages - self.delivered

    @property
    def described(self) -> Metadata:
        """Its entry in the metadata's ``targets``, as it is known at the start."""
        return {"target": self.name, "payload": self._form, "every": self._every}

    def watch(self, writer: SessionWriter) -> None:
        self._writer = writer
        self._count = writer.first_frame
        self.number = writer.targets.number_of(self)

    def wants(self, row: Row) -> bool:
        is_due = self._count % self._every == 0
        self._count += 1
        if is_due:
            self._messages += 1
        elif self._writer is not None:
            self._writer.targets.add(Delivery.not_due(self.number, row.source_frame))
        return is_due

    def start(self, metadata: Metadata) -> None:
        self._session = str(metadata.get("session_id") or "")

    def frame(self, row: Row, result: Any) -> None:
        message = message_of(PublishedFrame.of_row(row, self._session), self._form)
        key = f"{self._session}-{row.source_frame}"
        captured_ns = row.captured_ns if row.is_capture_known else None
        self.send(Outgoing(key, message, row.source_frame, captured_ns))

    def close(self) -> None:
        self._target.close()

    def open_again(self) -> Target:
        """Open the target again, after `close`.

        Raises:
            DgrecError: It cannot be opened.
        """
        assert self.reopen is not None
        target = self.reopen()
        target.on_taken = self._taken
        self._delivered_before = self.delivered
        self._target = target
        return target

    def send(self, message: Outgoing) -> None:
        """Send a message; what the target takes of it is recorded."""
        self._open[message.key] = message.source_frame, message.captured_ns
        if len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)
        self._target.send(message.text, message.key)

    def _taken(self, key: str) -> None:
        """Called by the target, in any thread."""
        found = self._open.pop(key, None)
        if found is None or self._writer is None:
            return
        source_frame, captured_ns = found
        ticks = delivery_ticks(captured_ns, self._writer.now_ns())
        self._writer.targets.add(Delivery(self.number, source_frame, ticks))


def open_publishers(
    request: RecordRequest, names: Mapping[str, str], *, can_wait: bool
) -> list[Publisher]:
    """Return a publisher for each target of a recording.

    Args:
        names: What names in a topic or path become.
        can_wait: Whether the source can wait.

    Raises:
        DgrecError: A target cannot be opened.
    """
    found = []
    for address in map(parse_target, request.publish):
        # Clients of what is served here are gone at the end.
        takes_later = request.publish_later and not address.is_served
        target = open_target(address, names, waits=request.publish_wait and can_wait)
        found.append(
            Publisher(
                target,
                request.payload,
                every=request.publish_every,
                waits=request.publish_wait,
                reopen=partial(open_target, address, names) if takes_later else None,
            )
        )
    return found
