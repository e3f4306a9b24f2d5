"""The pictures that recorded cameras gave out, and their rows.

A recorded video that was encoded has other pixels than the model saw: the digest in a row does not
find its picture. An array that a camera gave out certainly belongs to its row, as do its copies.
"""

from __future__ import annotations

import bisect
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dgrec.format import digest, original_of

if TYPE_CHECKING:
    from dgrec.session import Session

#: Copies are recognised until this many further pictures have been given out.
_MOST_PICTURES = 20_000


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """Facts that show whether two sessions are of the same frames.

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
        # The digest of a playlist says nothing about its files, and clips count their own frames.
        is_footage = "named_files" not in source and original_of(metadata) is None
        footage = source.get("sha256") if is_footage else ""
        return cls(session.id, str(footage or ""), str(group.get("id") or ""))


@dataclass(frozen=True, slots=True)
class Origin:
    """The row of a picture. Numbers are -1 where the row has none."""

    session: SessionFacts
    frame: int
    source_frame: int
    captured_us: int
    #: The digest of the pixels that the model saw.
    digest: int


class _Alike:
    """The rows of pictures with the same content, such as those of a dark scene."""

    def __init__(self) -> None:
        self.origins: list[Origin] = []
        self._known: set[Origin] = set()

    def add(self, origin: Origin) -> None:
        if origin not in self._known:
            self._known.add(origin)
            self.origins.append(origin)


class _GivenOut:
    """Pictures, by their identity and by their content."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # `forget` may run in a thread that holds it
        self._arrays: dict[int, tuple[weakref.ref[Any], Origin, int | None]] = {}
        self._contents: OrderedDict[int, _Alike] = OrderedDict()
        self._count = 0

    def note(self, image: np.ndarray[Any, Any], origin: Origin) -> None:
        key = id(image)

        def forget(reference: weakref.ref[Any]) -> None:
            with self._lock:
                if key in self._arrays and self._arrays[key][0] is reference:
                    del self._arrays[key]

        content = digest(image)
        with self._lock:
            self._arrays[key] = weakref.ref(image, forget), origin, content
            if content is None:
                return
            while self._contents and self._count >= _MOST_PICTURES:
                self._count -= len(self._contents.popitem(last=False)[1].origins)
            alike = self._contents.setdefault(content, _Alike())
            self._contents.move_to_end(content)
            self._count -= len(alike.origins)
            alike.add(origin)
            self._count += len(alike.origins)

    def of(self, picture: Any) -> Origin | _Alike | None:
        """Return the row of a picture that was given out, or the rows with the same content."""
        with self._lock:
            if not self._arrays and not self._contents:
                return None
        found = self._array(picture)
        content = digest(picture)
        if found is not None and found[1] == content:
            return found[0]
        return self._with(content) or self._with(digest(with_exchanged_colors(picture)))

    def changed(self, picture: Any) -> Origin | None:
        """Return the row of an array that was given out, whatever it shows now."""
        found = self._array(picture)
        return None if found is None else found[0]

    def _array(self, picture: Any) -> tuple[Origin, int | None] | None:
        """Return the row of an array that was given out, and the content that it had then."""
        array = _whole(picture)
        with self._lock:
            found = self._arrays.get(id(array))
        return found[1:] if found is not None and found[0]() is array else None

    def _with(self, content: int | None) -> _Alike | None:
        with self._lock:
            return None if content is None else self._contents.get(content)


def _whole(picture: Any) -> Any:
    """Return the array that a picture is a view of, if the view shows all of it unchanged."""
    base = getattr(picture, "base", None)
    if isinstance(picture, np.ndarray) and isinstance(base, np.ndarray):
        layout = (picture.shape, picture.strides, picture.dtype)
        is_all = layout == (base.shape, base.strides, base.dtype)
        if is_all and picture.__array_interface__["data"] == base.__array_interface__["data"]:
            return base
    return picture


def with_exchanged_colors(picture: Any) -> Any:
    """Return a picture with red and blue exchanged, or None: cameras give BGR, PIL has RGB."""
    array = np.asarray(picture) if hasattr(picture, "getchannel") else picture
    if isinstance(array, np.ndarray) and array.ndim == 3 and array.shape[2] == 3:
        return array[..., ::-1]
    return None


class Pairing:
    """Finds the rows of a session for a picture that a camera gave out.

    The camera may be of another session, if it is certain which of its frames are the same: by
    their number in the same footage, by equal pixels when they were inferred, or by stamp and
    number in sessions with one clock.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._facts = SessionFacts.of(session)
        self._columns: dict[str, np.ndarray[Any, Any]] = {}
        self._orders: dict[str, np.ndarray[Any, Any]] = {}
        #: For contents of several pictures: how many of these were looked up, and their positions.
        self._of_alike: weakref.WeakKeyDictionary[_Alike, tuple[int, list[int]]]
        self._of_alike = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def positions(self, picture: Any) -> Sequence[int] | None:
        """Return the positions of the rows of a picture, in order; None if there are none."""
        given = _given_out.of(picture)
        if given is None:
            return None
        if isinstance(given, Origin):
            return self._positions_of(given).tolist() or None
        with self._lock:
            done, found = self._of_alike.get(given, (0, []))
            origins = given.origins[done:]
            for origin in origins:
                for position in self._positions_of(origin).tolist():
                    place = bisect.bisect_left(found, position)
                    if found[place : place + 1] != [position]:
                        found.insert(place, position)
            self._of_alike[given] = done + len(origins), found
            return found or None

    def positions_of_changed(self, picture: Any) -> Sequence[int] | None:
        """Return the positions of the rows of an array that was drawn on since it was given out."""
        origin = _given_out.changed(picture)
        return None if origin is None else self._positions_of(origin).tolist() or None

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
        """Return the positions of the rows with a value; none if it is unknown."""
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
