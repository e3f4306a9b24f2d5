"""The scene: everything that is drawn on the frames of a session."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

from dgrec.footage import Pixels, pixel_aspect_of
from dgrec.replay.drawing import (
    Corner,
    Filtered,
    Hud,
    Painter,
    Redaction,
    Resize,
    SquarePixels,
    Stack,
    Trails,
    check_labels,
)
from dgrec.replay.query import DetectionFilter
from dgrec.replay.rendering.render import OverlayPainter
from dgrec.replay.rendering.side_by_side import SideBySide
from dgrec.session import Session

__all__ = ["Scene"]


@dataclass(frozen=True)
class Scene:
    """Everything that is drawn on the frames of a session.

    Redaction comes first, so that nothing else sees the covered pixels; the HUD comes last, at the
    final size.
    """

    #: Overlay settings that replace the recorded ones.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: The user's own analyzers, which draw what they had added.
    analyzers: tuple[Any, ...] = ()
    #: Whether PySDK's overlay is drawn.
    overlay: bool = True
    #: A predicate on the detections to draw.
    where: str | None = None
    #: Length of trails in frames; 0: none.
    trails: int = 0
    hud: bool = False
    hud_at: Corner = "top-left"
    #: Labels to cover; ``all``: everything.
    redact: tuple[str, ...] = ()
    redact_style: Literal["solid", "mosaic"] = "solid"
    redact_margin: float = 0.1
    redact_hold_s: float = 0.5
    #: The size of finished pictures.
    resize: Resize | None = None

    def painter(
        self,
        session: Session,
        closing: ExitStack,
        beside: tuple[Session, Pixels] | None = None,
    ) -> Stack:
        """Return the painter of this scene.

        Args:
            closing: Closes what the painter needs.
            beside: Another session to draw beside it, and its pixels.

        Raises:
            QueryError: DuckDB refuses the predicate.
            VideoError: Labels to cover or to blur were never recorded, or ``beside`` has other
                footage.
        """
        blurred = self.settings.get("blur") or []
        blurred = [blurred] if isinstance(blurred, str) else blurred
        if self.overlay and blurred and "all" not in blurred:
            sessions = [session] if beside is None else [session, beside[0]]
            check_labels("--blur", blurred, sessions)
        resize: list[Painter] = [] if self.resize is None else [self.resize]
        if beside is None:
            drawn, hud = self._painters(session, closing)
            return Stack([*drawn, *_shape(session), *resize, *hud])
        one, other = (
            Stack([*drawn, *_shape(each), *hud])
            for each in (session, beside[0])
            for drawn, hud in [self._painters(each, closing)]
        )
        return Stack([SideBySide(session, one, beside[0], other, beside[1]), *resize])

    def _painters(
        self, session: Session, closing: ExitStack
    ) -> tuple[list[Painter], list[Painter]]:
        """Return the painters for frames in their own size, and those for finished pictures."""
        painters: list[Painter] = []
        if self.redact or self.trails or self.hud:
            # Opened again: another thread reads frames from the first one.
            around = closing.enter_context(Session(session.path))
        if self.redact:
            labels = None if "all" in self.redact else self.redact
            painters.append(
                Redaction(
                    around,
                    labels,
                    style=self.redact_style,
                    margin=self.redact_margin,
                    hold_s=self.redact_hold_s,
                )
            )
        if self.overlay:
            overlay: Painter = OverlayPainter(self.settings, self.analyzers)
            if self.where is not None:
                overlay = Filtered(overlay, self._filter(session, closing).choose)
            painters.append(overlay)
        if self.trails:
            # Another filter: each goes through the frames in order, and trails look back.
            kept = None if self.where is None else self._filter(session, closing).kept
            painters.append(Trails(around, self.trails, kept))
        return painters, [Hud(around, self.hud_at)] if self.hud else []

    def _filter(self, session: Session, closing: ExitStack) -> DetectionFilter:
        detections = DetectionFilter(session, self.where or "")
        closing.callback(detections.close)
        return detections


def _shape(session: Session) -> list[Painter]:
    """Return the painter that stretches pictures to the shape of the source, if that is needed."""
    aspect = pixel_aspect_of(session)
    return [] if aspect == 1 else [SquarePixels(aspect)]
