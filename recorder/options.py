"""How a session is recorded: every choice, with its default."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["DEFAULT_QUALITY", "Retention", "Splitting"]

#: Of a recorded video, from 1 (smallest) to 100 (best).
DEFAULT_QUALITY = 70


@dataclass(frozen=True)
class Retention:
    """How much of a recording in parts is kept: so many seconds of it, so many bytes on disk."""

    last_s: float | None = None
    total: int | None = None

    def __bool__(self) -> bool:
        return self.last_s is not None or self.total is not None


@dataclass(frozen=True)
class Splitting:
    """When a new part begins: after so many seconds, or before it passes so many bytes.

    The bytes are those of its journal and its videos.
    """

    every_s: float | None = None
    size: int | None = None
    keep: Retention = field(default_factory=Retention)

    def __bool__(self) -> bool:
        return self.every_s is not None or self.size is not None
