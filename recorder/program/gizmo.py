"""A gizmo that records the results which pass it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from degirum_tools.streams import Gizmo, StreamData, tag_inference

from dgrec.errors import DgrecError
from dgrec.recorder.program.session import Capture, ProgramSession
from dgrec.recorder.program.stamps import video_frame

__all__ = ["recorder_gizmo"]

#: As deep as those of PySDK's own gizmos.
_DEPTH = 10


class RecorderGizmo(Gizmo):  # type: ignore[misc]  # degirum_tools has no types
    """Hands on what it gets, and records the result that comes with it.

    Args:
        session_of: Returns the session for a result; None in a process that does not record.
    """

    def __init__(self, session_of: Callable[[Any], ProgramSession | None]) -> None:
        super().__init__([(_DEPTH, False)])
        self._session_of = session_of

    def get_tags(self) -> list[str]:
        return [self.name]

    def require_tags(self, inp: int) -> list[str]:
        return [tag_inference]

    def run(self) -> None:
        for data in self.get_input(0):
            if self._abort:
                break
            self._record(data)
            self.send_result(data)

    def _record(self, data: StreamData) -> None:
        result = data.meta.find_last(tag_inference)
        if result is None:
            raise DgrecError(
                "a recorder's gizmo got a frame without a result: put it behind one "
                "that runs a model"
            )
        session = self._session_of(result)
        if session is None:
            return
        session.add(result, None, video_frame(data.meta, Capture()))


def recorder_gizmo(session_of: Callable[[Any], ProgramSession | None]) -> RecorderGizmo:
    return RecorderGizmo(session_of)
