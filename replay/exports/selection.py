"""The options of an export: which frames and detections, with which pictures."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from dgrec.arguments import check_number
from dgrec.errors import ConfigError
from dgrec.replay.rendering import select_frames

if TYPE_CHECKING:
    from dgrec.footage import Position
    from dgrec.session import Session

PictureKind = Literal["jpg", "png", "none"]
_PICTURE_KINDS: tuple[str, ...] = get_args(PictureKind)

_SPLIT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,40}\Z", re.ASCII)
_Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ExportOptions:
    """Options that choose what is exported of a session.

    Raises:
        ConfigError: A value is impossible.
    """

    #: A DuckDB condition on the view ``frames``: which frames.
    where: str | None = None
    #: A DuckDB condition on the view ``detections``: which detections.
    detections_where: str | None = None
    start: Position | None = None
    end: Position | None = None
    #: One frame in this many.
    every: int = 1
    #: The lowest score of a detection. If given, detections without a score are left out.
    min_score: float | None = None
    #: Names of the splits, and the share of each.
    split: tuple[tuple[str, float], ...] = ()
    #: The kind of pictures to write; None: the format's default.
    images: PictureKind | None = None
    #: Labels that are covered in pictures; ``("all",)`` for every detection.
    redact: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number("every", self.every, is_whole=True)
        if self.every < 1:
            raise ConfigError(f"every: {self.every} is too little; 1 is the least")
        if self.min_score is not None:
            check_number("min_score", self.min_score)
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise ConfigError(f"min_score: {self.min_score} is not a finite number")
        if self.images is not None and self.images not in _PICTURE_KINDS:
            raise ConfigError(f"images: {self.images!r} is not one of {', '.join(_PICTURE_KINDS)}")


def parse_split(text: str) -> tuple[tuple[str, float], ...]:
    """Return names and shares of splits.

    Raises:
        ConfigError: It is not valid.

    Example:
        >>> parse_split("train=0.8,val=0.2")
        (('train', 0.8), ('val', 0.2))
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, separator, share = (word.strip() for word in part.partition("="))
        try:
            number = float(share)
        except ValueError:
            number = -1.0
        if not separator or not _SPLIT_NAME.match(name) or not 0 < number <= 1 or name in found:
            raise ConfigError(
                f"{text!r} is not a valid split; expected NAME=SHARE,..., such as train=0.8,val=0.2"
            )
        found[name] = number
    if not math.isclose(sum(found.values()), 1, abs_tol=1e-6):
        raise ConfigError(f"{text!r}: the shares of a split must add up to 1")
    return tuple(found.items())


def chosen_positions(session: Session, options: ExportOptions) -> _Array:
    """Return the positions of the frames that are exported, ascending.

    Raises:
        ConfigError: The session has no frames.
        QueryError: ``where`` is refused, or no frame matches it.
        VideoError: There are no frames from ``start`` to ``end``.
    """
    if not len(session):
        raise ConfigError(f"{session.path}: no frames were recorded, so there is nothing to export")
    selection = select_frames(session, options.start, options.end, None, options.where)
    wanted = selection.wanted
    if wanted is None:
        wanted = np.arange(selection.start, selection.end)
    return wanted[:: options.every]


def split_positions(
    positions: _Array, split: tuple[tuple[str, float], ...]
) -> list[tuple[str, _Array]]:
    """Return the positions of each split: the first frames belong to the first one.

    Splits are stretches of time: neighbouring frames show nearly the same, and a model that is
    trained with one of them would know the other.

    Raises:
        ConfigError: A split would have no frame.
    """
    bounds = np.round(np.cumsum([0.0, *(share for _, share in split)]) * len(positions))
    found = []
    for (name, _), first, last in zip(split, bounds[:-1], bounds[1:], strict=True):
        if first == last:
            raise ConfigError(
                f"split {name}: would have none of the {len(positions):,} frames; "
                "export more frames, or give it a larger share"
            )
        found.append((name, positions[int(first) : int(last)]))
    return found
