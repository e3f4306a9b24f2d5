"""Changes from frame to frame: tracks, or labels, that appear, change and end.

Everything follows from the rows, so a recording gives the same changes as while it was made.
"""

from __future__ import annotations

import numbers
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dgrec.publishing.plain_values import plain

#: No tracker gives larger numbers.
_LARGEST_TRACK: Final = 2**63

#: A track by its number, or a label (None: detections without one).
_Key = tuple[str, int | str | None]


@dataclass(slots=True)
class _Present:
    """Something that is present: a track, or the detections of a label.

    Args:
        count: How many detections it stands for.
        in_zone: A track's zones, as a message has them.
        score: A track's score, as the detection has it: most frames are in no message.
        bbox: The same.
    """

    key: _Key
    label: str | None
    since_us: int | None
    seen_us: int | None
    count: int = 1
    in_zone: Any = None
    score: Any = None
    bbox: Any = None

    def differs(self, before: _Present) -> bool:
        """Return whether an update is due."""
        if self.key[0] == "track":
            return self.label != before.label or self.in_zone != before.in_zone
        return self.count != before.count

    def facts(self, kind: str) -> dict[str, Any]:
        """Return the facts that a message has about it."""
        if self.key[0] == "label":
            return {"label": self.label, "count": 0 if kind == "ended" else self.count}
        return {
            "track_id": self.key[1],
            "label": self.label,
            "score": _number(self.score),
            "bbox": plain(self.bbox),
            "in_zone": self.in_zone,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """A track or a label that has appeared, changed or ended.

    Args:
        kind: "started", "updated" or "ended".
        since_us: The stamp of the frame in which it appeared.
        seen_us: The stamp of the last frame in which it was.
        facts: ``track_id``, ``label``, ``count``, ``score``, ``bbox``, ``in_zone``.
    """

    kind: str
    since_us: int | None
    seen_us: int | None
    facts: Mapping[str, Any]

    @property
    def of(self) -> str:
        """A name for what has changed, which nothing else has at the same time."""
        kind = "track" if "track_id" in self.facts else "label"
        return f"{kind} {self.facts.get('track_id', self.facts['label'])!r}"


class Changes:
    """Follows tracks and labels over the frames of a recording.

    A detection with a track id belongs to its track, others to their label. Once a label has been
    tracked, only its tracks count: detections that are not in a track yet are not objects.

    Args:
        ended_after_us: How long something may be out of sight before it has ended.
    """

    def __init__(self, ended_after_us: int = 0) -> None:
        self._ended_after_us = ended_after_us
        self._present: dict[_Key, _Present] = {}
        self._tracked: set[str | None] = set()

    @property
    def objects(self) -> int:
        """Number of objects that are present."""
        return sum(each.count for each in self._present.values())

    def frame(self, detections: Sequence[Mapping[Any, Any]], stamp_us: int | None) -> list[Change]:
        """Take the next frame; return what has changed, ends first."""
        found = self._found(detections, stamp_us)
        ended = [
            _change("ended", each)
            for key, each in list(self._present.items())
            if key not in found and self._has_ended(key, stamp_us)
        ]
        return [*ended, *self._new(found)]

    def end(self) -> list[Change]:
        """Return the ends of what is still there at the end of the recording."""
        return [_change("ended", self._present.pop(key)) for key in list(self._present)]

    # --- inside ---

    def _has_ended(self, key: _Key, stamp_us: int | None) -> bool:
        seen_us = self._present[key].seen_us
        is_known = stamp_us is not None and seen_us is not None
        if is_known and stamp_us - seen_us < self._ended_after_us:  # type: ignore[operator]
            return False
        del self._present[key]
        return True

    def _new(self, found: Mapping[_Key, _Present]) -> Iterator[Change]:
        for key, now in found.items():
            before = self._present.get(key)
            self._present[key] = now
            if before is None:
                yield _change("started", now)
                continue
            now.since_us = before.since_us
            if now.differs(before):
                yield _change("updated", now)

    def _found(
        self, detections: Sequence[Mapping[Any, Any]], stamp_us: int | None
    ) -> dict[_Key, _Present]:
        tracks = [_track_of(item) for item in detections]
        labels = [_label_of(item) for item in detections]
        self._tracked.update(
            label for label, track in zip(labels, tracks, strict=True) if track is not None
        )
        found: dict[_Key, _Present] = {}
        counts: Counter[_Key] = Counter()
        for item, track, label in zip(detections, tracks, labels, strict=True):
            if track is not None:
                key: _Key = ("track", track)
            elif label not in self._tracked:
                key = ("label", label)
            else:
                continue
            counts[key] += 1
            if key not in found:
                found[key] = now = _Present(key, label, stamp_us, stamp_us)
                if track is not None:
                    now.in_zone = plain(item.get("in_zone"))
                    now.score, now.bbox = item.get("score"), item.get("bbox")
        for key, count in counts.items():
            if key[0] == "label":
                found[key].count = count
        return found


def _change(kind: str, present: _Present) -> Change:
    return Change(kind, present.since_us, present.seen_us, present.facts(kind))


def _track_of(item: Mapping[Any, Any]) -> int | None:
    track = item.get("track_id")
    if type(track) is int:  # most of them
        number = track
    elif isinstance(track, numbers.Integral) and not isinstance(track, bool):
        number = int(track)
    else:
        return None
    return number if abs(number) < _LARGEST_TRACK else None


def _label_of(item: Mapping[Any, Any]) -> str | None:
    label = item.get("label")
    return str(label) if isinstance(label, str) else None


def _number(value: Any) -> Any:
    number = plain(value)
    return number if isinstance(number, int | float) else None
