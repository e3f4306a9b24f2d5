"""rich's console for untrusted text: no markup, and no escape sequences but rich's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from dgrec.terminal import line, shown

__all__ = ["Console"]


class Console(rich.console.Console):
    """A console that escapes text as `dgrec.terminal` does, wherever it is printed.

    Markup (``[bold]``, ``[link=...]``) and names of emoji (``:car:``) are printed as they are.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, **options, "markup": False, "emoji": False})

    def say(self, text: str) -> None:
        """Print one line; on a terminal it is wrapped between words."""
        self.print(Text(line(text)), soft_wrap=not self.is_terminal)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else shown(text), style, control)
