"""A gizmo that records the results that pass through it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dgrec.errors import DgrecError
from dgrec.recorder.program.session import Capture, ProgramSession
from dgrec.recorder.program.stamps import video_frame

if TYPE_CHECKING:
    from degirum_tools.streams import Gizmo

#: The depth of its queue: that of PySDK's own gizmos.
_DEPTH = 10


def recorder_gizmo(session_of: Callable[[Any], ProgramSession | None]) -> Gizmo:
    """Return a gizmo that hands on what it gets, and records the result that comes with it.

    Args:
        session_of: Returns the session for a result; None in a process that does not record.
    """
    gizmo: Gizmo = _gizmo_class()(session_of)
    return gizmo


@functools.cache
def _gizmo_class() -> Any:
    from degirum_tools.streams import Gizmo, tag_inference

    class RecorderGizmo(Gizmo):  # type: ignore[misc]  # degirum_tools has no types
        def __init__(self, session_of: Callable[[Any], ProgramSession | None]) -> None:
            super().__init__([(_DEPTH, False)])
            self._session_of = session_of

        def require_tags(self, inp: int) -> list[str]:
            return [tag_inference]

        def run(self) -> None:
            for data in self.get_input(0):
                if self._abort:
                    break
                result = data.meta.find_last(tag_inference)
                if result is None:
                    raise DgrecError(
                        "a recorder's gizmo got a frame without a result; put it behind a gizmo "
                        "that runs a model"
                    )
                if (session := self._session_of(result)) is not None:
                    session.add(result, None, video_frame(data.meta, Capture()))
                self.send_result(data)

    return RecorderGizmo
