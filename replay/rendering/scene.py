"""The scene: everything that is drawn on the frames of a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        beside: Sequence[tuple[Session, Pixels]] = (),
        *,
        together: bool = False,
    ) -> Stack:
        """Return the painter of this scene.

        Args:
            closing: Closes what the painter needs.
            beside: Other sessions to draw beside it, and their pixels.
            together: Whether all were recorded together: then frames of the same time are paired.

        Raises:
            QueryError: DuckDB refuses the predicate.
            VideoError: Labels to cover or to blur were never recorded, or ``beside`` has other
                footage.
        """
        blurred = self.settings.get("blur") or []
        blurred = [blurred] if isinstance(blurred, str) else blurred
        if self.overlay and blurred and "all" not in blurred:
            check_labels("--blur", blurred, [session, *(other for other, _ in beside)])
        resize: list[Painter] = [] if self.resize is None else [self.resize]
        if not beside:
            drawn, hud = self._painters(session, closing)
            return Stack([*drawn, *_shape(session), *resize, *hud])
        painter: Painter = self._whole(session, closing)
        for number, (other, pixels) in enumerate(beside):
            names = None if number == 0 else ("", other.path.stem)
            painter = SideBySide(
                session,
                painter,
                other,
                self._whole(other, closing),
                pixels,
                together=together,
                names=names,
            )
        return Stack([painter, *resize])

    def _whole(self, session: Session, closing: ExitStack) -> Stack:
        """Return the painter of one of several sessions that are drawn side by side."""
        drawn, hud = self._painters(session, closing)
        return Stack([*drawn, *_shape(session), *hud])

    def _painters(
        self, session: Session, closing: ExitStack
    ) -> tuple[list[Painter], list[Painter]]:
        """Return the painters for frames in their own size, and those for finished pictures."""
        painters: list[Painter] = []
        if self.redact or self.trails or self.hud:
            # Opened again: another thread reads frames from the first one.
            around = closing.enter_context(session.opened_again())
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
