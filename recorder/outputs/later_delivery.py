"""Sends targets what they missed, at the end of the recording (``--publish-later``)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Final

from dgrec.errors import DgrecError
from dgrec.publishing import Target, missed_messages_of
from dgrec.recorder.outputs.publisher import Publisher
from dgrec.session import Session
from dgrec.units import counted

#: A target that takes nothing for this long is given up.
_PATIENCE_S: Final = 10.0
#: The time between writes of what was taken.
_STEP_S: Final = 0.2


class LaterDelivery:
    """Sends targets what they did not get, in order, as long as they take it.

    Args:
        publishers: The publishers that can open their target again.
        open_session: Opens what was recorded.
        session_id: The id of the session in messages.
    """

    def __init__(
        self,
        publishers: Sequence[Publisher],
        open_session: Callable[[], Session],
        session_id: str,
    ) -> None:
        self._deliveries = [_Delivery(each, open_session, session_id) for each in publishers]

    def run(self, step: Callable[[], None]) -> list[str]:
        """Send the messages; return the outcome, a line for each target that lacked something.

        Args:
            step: Called every now and then: it records what was taken.
        """
        for each in self._deliveries:
            each.start()
        try:
            while [each for each in self._deliveries if each.goes_on(_STEP_S)]:
                step()
        finally:
            self.give_up()
        step()
        return [each.note for each in self._deliveries if each.note]

    def give_up(self) -> bool:
        """Send nothing more; return whether something was being sent. Any thread may call this."""
        went_on = [each.give_up("") for each in self._deliveries]
        return any(went_on)


class _Delivery:
    """Sends one target what it did not get, in a thread of its own."""

    def __init__(
        self, publisher: Publisher, open_session: Callable[[], Session], session_id: str
    ) -> None:
        self._publisher = publisher
        self._open_session = open_session
        self._session_id = session_id
        self._target: Target | None = None
        self._lock = threading.Lock()
        self._has_begun = False
        self._before = publisher.delivered
        self._problem = ""
        self._is_over = self._is_closing = False
        self._seen = self._before
        self._moved_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="dgrec-later", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def goes_on(self, wait_s: float) -> bool:
        """Wait a while for the end; return whether it has not come yet."""
        self._thread.join(wait_s)
        if self._publisher.delivered > self._seen or self._target is None:
            self._seen, self._moved_s = self._publisher.delivered, time.monotonic()
        if time.monotonic() - self._moved_s > _PATIENCE_S:
            self.give_up(f"it took nothing for {_PATIENCE_S:g} s")
        return self._thread.is_alive() and not self._is_over

    def give_up(self, reason: str) -> bool:
        """End it; return whether it was going on, or is just being ended."""
        if self._is_over or not self._thread.is_alive():
            return self._is_closing
        self._is_over = self._is_closing = True
        self._problem = self._problem or reason
        try:
            self._close()  # `send` may be waiting in the other thread
        except DgrecError as error:
            self._problem = str(error)
        finally:
            self._is_closing = False
        return True

    @property
    def note(self) -> str:
        if not self._has_begun and not self._problem:
            return ""
        delivered = self._publisher.delivered - self._before
        text = f"{self._publisher.name}: {counted(delivered, 'message')} delivered later"
        return f"{text}: {self._problem}" if self._problem else text

    def _run(self) -> None:
        try:
            with closing(self._open_session()) as session:
                for frame in missed_messages_of(
                    session, self._publisher.name, self._session_id
                ).frames():
                    if not self._has_begun:
                        self._has_begun = True
                        self._target = self._publisher.open_again()
                    if self._is_over:
                        break
                    self._publisher.send_again(frame)
            self._close()
        except DgrecError as error:
            if not self._is_over:
                self._problem = str(error).removeprefix(f"{self._publisher.name}: ")
        except Exception as error:  # a defect must not keep the session from being sealed
            self._problem = repr(error)
        finally:
            with suppress(DgrecError):  # if it failed, the reason is known
                self._close()

    def _close(self) -> None:
        """Close the target, once."""
        with self._lock:
            target, self._target = self._target, None
        if target is not None:
            target.close()
