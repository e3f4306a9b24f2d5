"""The targets that a recording is published to, and what they have taken of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from dgrec.credentials import redact_text
from dgrec.errors import DgrecError
from dgrec.format import Delivery, Metadata, SealedFile, merged_targets
from dgrec.publishing import distinct_names, missing_command
from dgrec.recorder.outputs import LaterDelivery, Output, Publisher
from dgrec.session import Session
from dgrec.units import counted

#: The most frames that some targets have taken, and others not yet. No target has that many on
#: their way: if one is away, older frames are never complete.
_MOST_OPEN: Final = 8192


class _Open(NamedTuple):
    targets: int
    published_ms: float | None


class PublishedFrames:
    """Puts together what the targets have taken, frame by frame.

    ``on_published`` is called with each frame's ``published_ms``, in any thread.
    """

    def __init__(self, targets: int) -> None:
        self.on_published: Callable[[float], None] = lambda _: None
        self._targets = targets
        self._open: dict[int, _Open] = {}
        self._lock = threading.Lock()

    def add(self, delivery: Delivery) -> None:
        published_ms = delivery.published_ms
        if self._targets > 1:
            with self._lock:
                found = self._together(delivery)
            if found is None:
                return
            published_ms = found.published_ms
        if published_ms is not None:
            self.on_published(published_ms)

    def _together(self, delivery: Delivery) -> _Open | None:
        """Return what all targets have taken of a frame, once they have; until then, None."""
        before = self._open.pop(delivery.source_frame, None)
        published_ms = delivery.published_ms
        found = _Open(1, published_ms)
        if before is not None:
            both = published_ms is not None and before.published_ms is not None
            slowest = max(published_ms or 0.0, before.published_ms or 0.0) if both else None
            found = _Open(before.targets + 1, slowest)
        if found.targets == self._targets:
            return found
        self._open[delivery.source_frame] = found
        if len(self._open) > _MOST_OPEN:
            del self._open[next(iter(self._open))]
        return None


class Targets:
    """The targets of a recording, numbered as in its metadata.

    Args:
        outputs: All outputs of the recording.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._publishers = [each for each in outputs if isinstance(each, Publisher)]
        names = distinct_names(each.name for each in self._publishers)
        for publisher, name in zip(self._publishers, names, strict=True):
            publisher.name = name
        #: Writes what a target has taken.
        self.record: Callable[[Delivery], None] = lambda _: None
        self._later: LaterDelivery | None = None
        #: When the slowest one had taken each frame.
        self.published = PublishedFrames(len(self._publishers))
        #: The outcome of late deliveries, a line each.
        self.notes: list[str] = []
        #: How many of the kept rows each target lacks, by name, once it is known.
        self._lacks: dict[str, int] = {}

    @property
    def described(self) -> Metadata:
        """The metadata of the targets at the start."""
        return {"targets": [each.described for each in self._publishers]} if self else {}

    def __bool__(self) -> bool:
        return bool(self._publishers)

    def add(self, delivery: Delivery) -> None:
        """Record that a target has taken a message. Any thread may call this."""
        self.record(delivery)
        if not delivery.is_end:
            self.published.add(delivery)

    def number_of(self, publisher: Publisher) -> int:
        return next(i for i, each in enumerate(self._publishers) if each is publisher)

    @property
    def lacks_something(self) -> bool:
        """Return whether there is something to deliver later, and that was asked for."""
        return bool(self._lacking())

    def deliver_later(
        self, open_session: Callable[[], Session], session_id: str, step: Callable[[], None]
    ) -> None:
        """Send targets what they did not get, if that was asked for.

        Args:
            open_session: Opens what was recorded.
            session_id: The id of the session in messages.
            step: Called every now and then: it records what was taken.
        """
        self._later = LaterDelivery(self._lacking(), open_session, session_id)
        self.notes = [redact_text(note) for note in self._later.run(step)]

    def hurry(self) -> bool:
        """End `deliver_later`; return whether it was going on. Any thread may call this."""
        return self._later is not None and self._later.give_up()

    def count_kept(self, files: Sequence[Path]) -> None:
        """Count the rows in some sealed files that targets lack, if they lack anything.

        Targets were sent other rows, too: of no alert, or of parts that were removed.
        """
        if not any(each.missing > 0 for each in self._publishers):
            return
        parts = []
        try:
            for path in files:
                with closing(SealedFile(path)) as file:
                    parts.append(file.metadata)
        except (DgrecError, OSError):  # one was taken away: the other count has to do
            return
        self._lacks = {
            each["target"]: each["frames"] - each["delivered"]
            for each in merged_targets(parts)
            if "frames" in each
        }

    def undelivered(self, path: Path) -> list[str]:
        """Return how each target can get what it lacks, a line each."""
        lacks = {each.name: self._lacks.get(each.name, each.missing) for each in self._publishers}
        return [
            f"{name} did not get {counted(count, 'frame')}: {missing_command(str(path), name)}"
            for name, count in lacks.items()
            if count > 0
        ]

    def _lacking(self) -> list[Publisher]:
        return [each for each in self._publishers if each.reopen and each.missing > 0]
