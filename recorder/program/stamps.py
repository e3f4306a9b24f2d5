"""Stamps of frames in a graph of gizmos."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from dgrec.recorder.program.session import Capture


def video_frame(info: Any, capture: Capture) -> Capture:
    """Return what the video gizmo noted in a frame's metadata, or ``capture`` if there is none."""
    streams = sys.modules.get("degirum_tools.streams")
    if streams is None or not isinstance(info, streams.StreamMeta):
        return capture
    found = info.find_last(streams.tag_video)
    if not isinstance(found, dict):
        return capture
    stamp = found.get(streams.VideoSourceGizmo.key_timestamp)
    number = found.get(streams.VideoSourceGizmo.key_frame_id)
    if isinstance(stamp, float) and stamp > 0:
        capture = dataclasses.replace(capture, captured_ns=round(stamp * 1e9))
    if type(number) is int and number >= 0:
        capture = dataclasses.replace(capture, source_frame=number)
    return capture
