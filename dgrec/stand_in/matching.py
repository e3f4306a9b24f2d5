"""Which recorded frame a picture is: by its pixels, or in order."""

from __future__ import annotations

from typing import Any

import numpy as np

from dgrec.errors import ModelError
from dgrec.format import digest
from dgrec.session import Session
from dgrec.stand_in.given import Pairing

__all__ = ["MATCHES", "MISSING", "Matcher"]

#: How frames are found, and what pictures get that were not recorded.
MATCHES = ("auto", "pixels", "order")
MISSING = ("error", "nearest", "empty")


class Matcher:
    """Finds the frame of a session that a picture is.

    Where several frames have the same pixels, they are taken in their order.

    Raises:
        ModelError: The session cannot be matched that way.
    """

    def __init__(self, session: Session, match: str = "auto", missing: str = "error") -> None:
        for name, value, known in (("match", match, MATCHES), ("missing", missing, MISSING)):
            if value not in known:
                raise ModelError(f"{name}={value!r}: expected {', '.join(known)}")
        self.missing = missing
        self._session = session
        self._size = len(session)
        self._last = -1
        self._pairing = Pairing(session)
        self._digests = _column(session, "pixel_digest") if match != "order" else None
        self.is_by_order = self._digests is None
        if self._digests is None:
            self._check_order(match)
        else:
            self._positions = np.argsort(self._digests, kind="stable")
            self._sorted = self._digests[self._positions]

    def rewind(self) -> None:
        """Begin again at the first frame."""
        self._last = -1

    def find(self, picture: Any) -> int | None:
        """Return the position of a picture's frame; None if it gets no detections.

        Raises:
            ModelError: The picture was not recorded, and that is an error.
        """
        position = self._of_camera(picture)
        if position is None:
            position = self._next() if self.is_by_order else self._with_pixels_of(picture)
        if position is not None:
            self._last = position
            return position
        if self.missing == "empty":
            return None
        if self.missing == "nearest" and not self.is_by_order:
            position = self._last = self._nearest(picture)
            return position
        raise ModelError(self._complaint())

    # --- inside ---

    def _of_camera(self, picture: Any) -> int | None:
        """Return the position of a picture that a recorded camera gave out."""
        same = self._pairing.positions(picture)
        return None if same is None else self._first_after_last(same)

    def _next(self) -> int | None:
        following = self._last + 1
        return following if following < self._size else None

    def _with_pixels_of(self, picture: Any) -> int | None:
        number = digest(picture)
        if number is None:
            return None
        first = int(np.searchsorted(self._sorted, number, "left"))
        last = int(np.searchsorted(self._sorted, number, "right"))
        if first == last:
            return None
        return self._first_after_last(self._positions[first:last])

    def _first_after_last(self, same: np.ndarray[Any, Any]) -> int:
        later = int(np.searchsorted(same, self._last, "right"))
        return int(same[later if later < len(same) else 0])

    def _nearest(self, picture: Any) -> int:
        raise ModelError("missing='nearest' needs signatures, which the session does not have")

    def _complaint(self) -> str:
        path = self._session.path
        if self.is_by_order:
            return (
                f"{path}: has {self._size} frames, and this is one more; predict_batch begins again"
            )
        return (
            f"{path}: a picture was not recorded: none of its {self._size} frames has these pixels "
            "(a frame that was skipped, other footage, or the same encoded again); "
            "missing='nearest' takes the most similar, 'empty' gives no detections"
        )

    def _check_order(self, match: str) -> None:
        if match == "order":
            return
        path, totals = self._session.path, self._session.totals
        lost = sum(totals.get(name) or 0 for name in ("skipped", "dropped"))
        if match == "pixels" or lost:
            raise ModelError(
                f"{path}: has no digests of pixels (an earlier version of dgrec recorded it), and "
                f"{lost} frames were not inferred; match='order' gives its results in order"
            )


def _column(session: Session, name: str) -> np.ndarray[Any, Any] | None:
    """Return a column of whole numbers; None if the session does not have it."""
    if name not in session.schema.names:
        return None
    found = [
        batch.column(0).fill_null(0).to_numpy(zero_copy_only=False)
        for batch in session.batches([name])
    ]
    values = np.concatenate(found) if found else np.zeros(0, np.uint64)
    return values if values.any() else None
