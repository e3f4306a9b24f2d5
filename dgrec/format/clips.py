"""The frames of a recording that a clip holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: First frame, and the one after the last.
Span = tuple[int, int]


def original_of(metadata: Mapping[str, Any]) -> str | None:
    """Return the id of the recording that a clip, or a clip of a clip, was cut from.

    None for a session that is not a clip.
    """
    clips = list(_clips(metadata))
    return str(clips[-1].get("session_id") or "") or None if clips else None


def merged_from(metadata: Mapping[str, Any]) -> list[str]:
    """Return the ids of the sessions that a session was merged from; none if it was not merged."""
    merged = metadata.get("clip", {}).get("merged", [])
    return [str(item.get("session_id")) for item in merged]


def recorded_spans(metadata: Mapping[str, Any]) -> list[Span]:
    """Return the frames of the original recording that a clip holds, as far as known."""
    first, *earlier = [*_clips(metadata)] or [{}]
    spans = [(start, start + frames) for _, frames, start in _ranges(first)]
    for clip in earlier:
        spans = [
            (max(span[0], place) - place + start, min(span[1], place + frames) - place + start)
            for span in spans
            for place, frames, start in _ranges(clip)
            if max(span[0], place) < min(span[1], place + frames)
        ]
    return spans


def have_common_frames(one: Sequence[Span], other: Sequence[Span]) -> bool:
    return any(max(a[0], b[0]) < min(a[1], b[1]) for a in one for b in other)


def _clips(metadata: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the ``clip`` of a session, then that of the session it was cut from, and so on."""
    clip = metadata.get("clip")
    while clip is not None:
        yield clip
        clip = clip.get("clip")


def _ranges(clip: Mapping[str, Any]) -> Iterator[tuple[int, int, int]]:
    """Yield (first frame in the clip, number of frames, first frame in its source)."""
    for item in clip.get("ranges", []):
        if item.get("from_frame") is not None:
            yield item["first_frame"], item["frames"], item["from_frame"]
