"""Publishes the frames of a recording while it goes on."""

from __future__ import annotations

from typing import Any

from dgrec.format import Metadata, Row
from dgrec.publishing import PayloadForm, PublishedFrame, Target, message_of
from dgrec.recorder.outputs.output import Output

__all__ = ["Publisher"]


class Publisher(Output):
    """Sends a message of each frame to a target.

    A recording waits only for files and standard output, and only where it can: for other targets
    the oldest frames are left out, and counted.

    Args:
        target: It is closed at the end.
        form: What is sent of a frame.
        every: Of as many frames one is sent.
        waits: Wait for any target, where the source can wait.
    """

    def __init__(
        self,
        target: Target,
        form: PayloadForm = "guide",
        *,
        every: int = 1,
        waits: bool = False,
    ) -> None:
        self.name = target.name
        self.is_waited_for = waits or target.is_waited_for
        self._target = target
        self._form = form
        self._every = every
        self._count = 0
        self._session = ""

    @property
    def delivered(self) -> int:
        """How many messages have arrived, as far as the target says so."""
        return self._target.delivered

    def start(self, metadata: Metadata) -> None:
        self._session = str(metadata.get("session_id") or "")

    def frame(self, row: Row, result: Any) -> None:
        self._count += 1
        if (self._count - 1) % self._every:
            return
        message = message_of(PublishedFrame.of_row(row, self._session), self._form)
        self._target.send(message, f"{self._session}-{row.source_frame}")

    def close(self) -> None:
        self._target.close()
