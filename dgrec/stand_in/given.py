"""The pictures that recorded cameras gave out, and the rows that they are of.

A recorded video that was encoded has other pixels than the model saw: the digest in a row does not
find its picture. The array that a camera gave out is of its row for certain, and so are its copies.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dgrec.format import digest, original_of

if TYPE_CHECKING:
    from dgrec.session import Session

__all__ = ["Origin", "Pairing", "SessionFacts", "note", "numbers", "origins_of"]

#: Copies are recognised as long as not as many further pictures have been given out.
_MOST_CONTENTS = 20_000


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What shows that two sessions are of the same frames.

    Args:
        id: Of the recording.
        footage: Digest of the file that was recorded from; "" for anything else.
        group: Id of the group of sessions that were recorded with one clock; "" for none.
    """

    id: str
    footage: str
    group: str

    @classmethod
    def of(cls, session: Session) -> SessionFacts:
        metadata = session.metadata
        source, group = metadata.get("source", {}), metadata.get("group", {})
        # The digest of a playlist says nothing of its files, and clips count their own frames.
        is_footage = "named_files" not in source and original_of(metadata) is None
        footage = source.get("sha256") if is_footage else ""
        return cls(session.id, str(footage or ""), str(group.get("id") or ""))


@dataclass(frozen=True, slots=True)
class Origin:
    """The row that a picture is of. Numbers are -1 where the row has none."""

    session: SessionFacts
    frame: int
    source_frame: int
    captured_us: int
    #: Of the pixels that the model saw.
    digest: int


class _GivenOut:
    """Pictures, by their identity and by their content."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a picture may be collected while it is held
        self._arrays: dict[int, tuple[weakref.ref[Any], Origin]] = {}
        self._contents: OrderedDict[int, list[Origin]] = OrderedDict()

    def note(self, image: np.ndarray[Any, Any], origin: Origin) -> None:
        key = id(image)

        def forget(reference: weakref.ref[Any]) -> None:
            with self._lock:
                if key in self._arrays and self._arrays[key][0] is reference:
                    del self._arrays[key]

        number = digest(image)
        with self._lock:
            self._arrays[key] = weakref.ref(image, forget), origin
            if number is None:
                return
            alike = self._contents.pop(number, [])
            if origin not in alike:
                alike.append(origin)
            self._contents[number] = alike
            if len(self._contents) > _MOST_CONTENTS:
                self._contents.popitem(last=False)

    def origins_of(self, picture: Any) -> list[Origin]:
        with self._lock:
            if not self._arrays and not self._contents:
                return []
            array = _whole(picture)
            reference, origin = self._arrays.get(id(array), (None, None))
        if reference is not None and origin is not None and reference() is array:
            return [origin]
        for same in _spellings(picture):
            number = digest(same)
            with self._lock:
                if number is not None and (found := self._contents.get(number)):
                    return list(found)
        return []


def _whole(picture: Any) -> Any:
    """Return the array that a picture is a view of, if it shows all of it as it is."""
    base = getattr(picture, "base", None)
    if isinstance(picture, np.ndarray) and isinstance(base, np.ndarray):
        layout = (picture.shape, picture.strides, picture.dtype)
        is_all = layout == (base.shape, base.strides, base.dtype)
        if is_all and picture.__array_interface__["data"] == base.__array_interface__["data"]:
            return base
    return picture


def _spellings(picture: Any) -> list[Any]:
    """Return a picture as it is, and with red and blue exchanged: cameras give BGR, PIL has RGB."""
    array = np.asarray(picture) if hasattr(picture, "getchannel") else picture
    if isinstance(array, np.ndarray) and array.ndim == 3 and array.shape[2] == 3:
        return [array, array[..., ::-1]]
    return [array]


class Pairing:
    """Finds the rows of a session that are of a picture which a camera gave out.

    The camera may be of another session, if it is certain which of its frames are the same: by
    their number in the same footage, by equal pixels when they were inferred, or by stamp and
    number in sessions with one clock.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._facts = SessionFacts.of(session)
        self._columns: dict[str, np.ndarray[Any, Any]] = {}
        self._orders: dict[str, np.ndarray[Any, Any]] = {}

    def positions(self, picture: Any) -> np.ndarray[Any, Any] | None:
        """Return the positions of the rows of a picture, in order; None if there are none."""
        found = [self._positions_of(origin) for origin in origins_of(picture)]
        there = [each for each in found if len(each)]
        if len(there) > 1:
            return np.unique(np.concatenate(there))
        return there[0] if there else None

    def _positions_of(self, origin: Origin) -> np.ndarray[Any, Any]:
        own, other = self._facts, origin.session
        if own.id and own.id == other.id:
            return self._at("frame", origin.frame)
        if own.footage and own.footage == other.footage:
            return self._at("source_frame", origin.source_frame)
        same = self._at("pixel_digest", origin.digest)
        if len(same):
            return same
        if own.group and own.group == other.group:
            at_once = self._at("captured_at", origin.captured_us)
            found: np.ndarray[Any, Any] = at_once[
                self._column("source_frame")[at_once] == origin.source_frame
            ]
            return found
        return np.zeros(0, np.int64)

    def _at(self, name: str, value: int) -> np.ndarray[Any, Any]:
        """Return the positions of the rows with a value; none for an unknown one."""
        if value < 0:
            return np.zeros(0, np.int64)
        values = self._column(name)
        if name not in self._orders:
            self._orders[name] = np.argsort(values, kind="stable")
        order = self._orders[name]
        first, last = (
            int(np.searchsorted(values, value, side, sorter=order)) for side in ("left", "right")
        )
        found: np.ndarray[Any, Any] = order[first:last]
        return found

    def _column(self, name: str) -> np.ndarray[Any, Any]:
        if name not in self._columns:
            self._columns[name] = numbers(self._session, name)
        return self._columns[name]


def numbers(session: Session, name: str) -> np.ndarray[Any, Any]:
    """Return a column of whole numbers or stamps (in microseconds); null is -1."""
    from dgrec.footage import column_values

    if name not in session.schema.names:
        return np.full(len(session), -1)
    found = [np.zeros(0, np.int64)]
    for batch in session.batches([name]):
        values, is_there = column_values(batch.column(0))
        found.append(np.where(is_there, values, -1).astype(np.int64))
    return np.concatenate(found)


_given_out = _GivenOut()
note = _given_out.note
origins_of = _given_out.origins_of
