"""Frames as a format's reader yields them, and its input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

#: A model has fewer classes.
_MOST_NAMED = 100_000


@dataclass(slots=True)
class ImportedFrame:
    """A frame of another program's file. What the file does not say is None."""

    #: Its number in the footage, from 0.
    number: int
    #: With PySDK's keys, boxes in pixels.
    detections: list[dict[str, Any]]
    size: tuple[int, int] | None = None
    media_time_s: float | None = None
    captured_us: int | None = None
    completed_us: int | None = None
    timing: Mapping[str, float] = field(default_factory=dict)
    #: What analyzers added.
    attributes: Mapping[str, Any] = field(default_factory=dict)
    #: What its masks and arrays take in memory.
    decoded_bytes: int = 0


class Category(NamedTuple):
    """A category of COCO."""

    name: str
    #: Its number in the session.
    number: int
    #: Names of its key points, and pairs of connected ones, from 1.
    points: Sequence[str] = ()
    skeleton: Sequence[tuple[int, int]] = ()


#: Pictures of COCO by their id as JSON: frame number, and width and height if known.
Images = Mapping[str, tuple[int, tuple[int, int] | None]]


@dataclass(frozen=True)
class ImportOptions:
    """Facts about a file that the user gives, because the file does not."""

    #: Names of category ids, as models number them.
    labels: Mapping[int, str] = field(default_factory=dict)
    #: Categories and pictures of the COCO annotations that results belong to.
    categories: Mapping[int, Category] = field(default_factory=dict)
    images: Images = field(default_factory=dict)
    #: Width and height of the frames.
    size: tuple[int, int] | None = None
    #: Coordinates are parts of the width and height, from 0 to 1.
    normalized: bool = False
    #: The column that holds the number of the frame.
    frame_column: str | None = None
    #: The field of FiftyOne's samples that holds the detections.
    field_name: str | None = None


@dataclass(frozen=True)
class Input:
    """The file that is imported."""

    path: Path
    file: IO[bytes]
    options: ImportOptions


@dataclass
class Facts:
    """Facts about the whole file that a reader learns while it yields frames."""

    labels: dict[int, str] = field(default_factory=dict)
    #: Width and height of all frames.
    size: tuple[int, int] | None = None
    fps: float | None = None
    #: Frames of the footage; those that are not in the file have no detections.
    frames: int | None = None
    #: The name of the video, or folder of pictures, whose frames are counted, if the file says it.
    counts: str | None = None
    #: Whether frames without a detection leave nothing in the file.
    is_sparse: bool = False
    #: What a session does not keep of the file, and how often.
    notes: Counter[str] = field(default_factory=Counter)

    def name(self, category: int | None, label: str) -> None:
        """Take a detection's label as the name of its category, if a model can have that one."""
        if category is not None and category >= 0 and len(self.labels) < _MOST_NAMED:
            self.labels.setdefault(category, label)


Frames = Generator[ImportedFrame, None, None]
