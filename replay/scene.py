"""Everything that is drawn of a session, put together from what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

from dgrec.session import Session
from replay.beside import SideBySide
from replay.hud import Hud
from replay.painting import Filtered, Painter, Resize, Stack
from replay.pixels import Pixels
from replay.redaction import Redaction
from replay.render import OverlayPainter
from replay.trails import Trails
from replay.where import DetectionFilter

__all__ = ["Scene"]


@dataclass(frozen=True)
class Scene:
    """What to draw on the frames of a session.

    Painters are made in the order in which they draw: what is covered is covered before anything
    else sees the pixels, and the display comes last, at the size at which it will be read.
    """

    #: Overlay settings that replace the recorded ones.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Whether PySDK's overlay is drawn.
    overlay: bool = True
    #: A predicate on the detections to draw.
    where: str | None = None
    #: Frames that trails go back; 0: no trails.
    trails: int = 0
    hud: bool = False
    #: Labels to cover (``all``: everything); none: nothing is covered.
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
        """Return what draws this scene on a session's frames.

        Args:
            session: The session.
            closing: Takes care of what has to be closed in the end.
            beside: Another session to draw beside it, and its pixels.

        Raises:
            QueryError: DuckDB refuses the predicate.
            VideoError: Labels to cover were never recorded, or ``beside`` has other footage.
        """
        resize: list[Painter] = [] if self.resize is None else [self.resize]
        if beside is None:
            return Stack(
                [*self._on_pixels(session, closing), *resize, *self._hud(session, closing)]
            )
        other, pixels = beside
        one, two = (
            Stack([*self._on_pixels(each, closing), *self._hud(each, closing)])
            for each in (session, other)
        )
        return Stack([SideBySide(session, one, other, two, pixels), *resize])

    def _on_pixels(self, session: Session, closing: ExitStack) -> list[Painter]:
        painters: list[Painter] = []
        if self.redact:
            redaction = Redaction(
                session,
                None if "all" in self.redact else self.redact,
                style=self.redact_style,
                margin=self.redact_margin,
                hold_s=self.redact_hold_s,
            )
            closing.callback(redaction.close)
            painters.append(redaction)
        if self.overlay:
            overlay: Painter = OverlayPainter(self.settings)
            if self.where is not None:
                overlay = Filtered(overlay, self._filter(session, closing).choose)
            painters.append(overlay)
        if self.trails:
            # A filter of its own: trails look back, and each goes through the frames in order.
            kept = None if self.where is None else self._filter(session, closing).kept
            trails = Trails(session, self.trails, kept)
            closing.callback(trails.close)
            painters.append(trails)
        return painters

    def _filter(self, session: Session, closing: ExitStack) -> DetectionFilter:
        detections = DetectionFilter(session, self.where or "")
        closing.callback(detections.close)
        return detections

    def _hud(self, session: Session, closing: ExitStack) -> list[Painter]:
        if not self.hud:
            return []
        hud = Hud(session)
        closing.callback(hud.close)
        return [hud]
