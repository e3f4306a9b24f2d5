"""The recorded frame of a picture: as a recorded camera gave it, by its pixels, or in order."""

from __future__ import annotations

import bisect
import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dgrec.errors import ModelError
from dgrec.format import digest, signature, vectors
from dgrec.session import Session
from dgrec.stand_in.given_pictures import Pairing, with_exchanged_colors
from dgrec.units import counted

#: How many times as far as the nearest frame the frame that is due may be.
_AS_NEAR = 1.25

#: How frames are found, and what pictures that were not recorded get.
_MATCHES = ("auto", "pixels", "order", "camera")
_MISSING = ("error", "nearest", "empty")


class Matcher:
    """Finds the frame of a session that a picture is.

    A picture that a recorded camera gave out (`given_pictures`) is the frame that it was recorded
    as. Where several frames have the same pixels, they are taken in their order.

    Args:
        match: "pixels"; "order"; "auto": by pixels where the session has digests, else in order;
            "camera": pictures of recorded cameras only.
        missing: What a picture that was not recorded gets: "error", "nearest" or "empty".

    Raises:
        ModelError: The session cannot be matched that way.
    """

    def __init__(self, session: Session, match: str = "auto", missing: str = "error") -> None:
        for name, value, known in (("match", match, _MATCHES), ("missing", missing, _MISSING)):
            if value not in known:
                raise ModelError(f"{name}={value!r}: expected {', '.join(known)}")
        self.missing = missing
        #: Those of further sessions; each run has its own of these, too.
        self.others: Sequence[Matcher] = ()
        self._path = session.path
        self._size = len(session)
        self._last = -1
        #: How many frames lie between the last two pictures, plus 1.
        self._step = 1
        self._pairing = Pairing(session)
        of_frames = _digests(session) if match in ("auto", "pixels") else None
        self.is_by_order = of_frames is None and match != "camera"
        if of_frames is None:
            if match in ("auto", "pixels"):
                _check_order(session, match)
            if missing == "nearest":
                raise ModelError(
                    f"{self._path}: missing='nearest' needs frames that are found by their pixels"
                )
            of_frames = np.zeros(0, np.int64)
        self._positions = np.argsort(of_frames, kind="stable")
        self._sorted = of_frames[self._positions]
        self._signatures = _Signatures.of(session) if missing == "nearest" else None

    @property
    def last(self) -> int:
        """The position of the last frame that was found; -1 before any."""
        return self._last

    def from_the_first(self) -> Matcher:
        """Return a matcher of the same sessions that begins at their first frames."""
        own = copy.copy(self)
        own._last, own._step = -1, 1
        own.others = [other.from_the_first() for other in self.others]
        return own

    def find(self, picture: Any, *, has_exchanged_colors: bool = False) -> int | None:
        """Return the position of a picture's frame; None if it gets no detections.

        Args:
            has_exchanged_colors: Red and blue may be exchanged in the recording.

        Raises:
            ModelError: The picture was not recorded, and ``missing`` makes that an error.
        """
        position = self._known(picture, has_exchanged_colors)
        if position is None and self.is_by_order:
            position = self._next()
        if position is None:
            if self.missing == "empty":
                return None
            if self.missing != "nearest":
                raise ModelError(self._complaint())
            position = self._nearest(picture)
        if 0 <= self._last < position:
            self._step = position - self._last
        self._last = position
        return position

    def knows(self, picture: Any, *, has_exchanged_colors: bool = False) -> bool:
        """Return whether a picture is certainly one of the frames."""
        return self._known(picture, has_exchanged_colors) is not None

    # --- inside ---

    def _known(self, picture: Any, has_exchanged_colors: bool) -> int | None:
        if (same := self._pairing.positions(picture)) is not None:
            return self._following(same)
        if not self.is_by_order and (found := self._with_pixels_of(picture)) is not None:
            return found
        # The program drew on a camera's array; one filled with another frame was found above.
        if (changed := self._pairing.positions_of_changed(picture)) is not None:
            return self._following(changed)
        if has_exchanged_colors and not self.is_by_order:
            return self._with_pixels_of(with_exchanged_colors(picture))
        return None

    def _next(self) -> int | None:
        following = self._last + 1
        return following if following < self._size else None

    def _with_pixels_of(self, picture: Any) -> int | None:
        number = digest(picture)
        if number is None:
            return None
        first, last = np.searchsorted(self._sorted, [number, number + 1]).tolist()
        if first == last:
            return None
        return self._following(self._positions[first:last])

    def _following(self, positions: Sequence[int] | np.ndarray[Any, Any]) -> int:
        """Return the first position after the last frame, or the first of all."""
        later = bisect.bisect_right(positions, self._last)
        return int(positions[later if later < len(positions) else 0])

    def _nearest(self, picture: Any) -> int:
        """Return the frame whose picture is most like this one."""
        own = signature(picture)
        if own is None or self._signatures is None or not len(self._signatures.positions):
            raise ModelError(self._complaint())
        positions = self._signatures.positions
        distances = np.linalg.norm(self._signatures.vectors - vectors([own]), axis=1)
        least = distances.min()
        # In a scene that hardly moves, encoding changes more than time does: then the frame that
        # is due is taken.
        due = int(np.searchsorted(positions, self._last + self._step))
        is_due = due < len(positions) and positions[due] == self._last + self._step
        if self._last >= 0 and is_due and distances[due] <= _AS_NEAR * least:
            return int(positions[due])
        return self._following(positions[distances == least])

    def _complaint(self) -> str:
        if not self._size:
            return f"{self._path}: has no frames"
        frames = counted(self._size, "frame")
        if self.is_by_order:
            return f"{self._path}: has {frames}, and this is one more; predict_batch begins again"
        return (
            f"{self._path}: none of its {frames} has the pixels of this picture (a frame that was "
            "skipped or dropped, one that was resized or cropped, other footage, or the same "
            "encoded again); missing='nearest' takes the most similar frame, 'empty' gives no "
            "detections"
        )


def has_digests(session: Session) -> bool:
    """Return whether frames of a session can be found by their pixels."""
    return _digests(session) is not None


def _check_order(session: Session, match: str) -> None:
    """Refuse to pair frames by order where that could be wrong."""
    totals = session.totals
    lost = [totals.get(name) for name in ("skipped", "dropped")]
    if match == "auto" and lost == [0, 0] and not session.metadata.get("clip"):
        warnings.warn(
            f"{session.path}: has no digests of its pictures: its results are given in order",
            stacklevel=2,
        )
        return
    why = ""
    if lost != [0, 0]:
        known = None if None in lost else sum(filter(None, lost))
        count = "an unknown number of frames" if known is None else counted(known, "frame")
        why = f", and {count} of its source were not inferred"
    raise ModelError(
        f"{session.path}: has no digests of its pictures{why}; match='order' gives its results in "
        "order all the same"
    )


def _digests(session: Session) -> np.ndarray[Any, Any] | None:
    """Return the digest of each frame, -1 where there is none; None if no frame has one."""
    if "pixel_digest" not in session.schema.names:
        return None
    found = [
        batch.column(0).fill_null(-1).to_numpy(zero_copy_only=False)
        for batch in session.batches(["pixel_digest"])
    ]
    values = np.concatenate(found) if found else np.zeros(0, np.int64)
    return values if not len(values) or (values >= 0).any() else None


@dataclass
class _Signatures:
    """The frames that have a signature, and their vectors."""

    positions: np.ndarray[Any, Any]
    vectors: np.ndarray[Any, Any]

    @classmethod
    def of(cls, session: Session) -> _Signatures:
        length = len(signature(np.zeros((64, 64), np.uint8)) or b"")
        values = [
            value
            for batch in session.batches(["pixel_signature"])
            for value in batch.column(0).to_pylist()
        ]
        there = [i for i, value in enumerate(values) if value and len(value) == length]
        return cls(np.array(there, np.int64), vectors([values[i] for i in there]))
