"""A report's tags, and the texts that its page shows."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

__all__ = ["ReportPage"]


class ReportPage(HTMLParser):
    """The tags and the data of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: dict[str, str] = {}
        self._key: str | None = None
        self.feed(path.read_text(encoding="utf-8"))
        self.report: dict[str, Any] = json.loads(
            zlib.decompress(base64.b64decode(self.blocks["report"]))
        )
        self.sections: list[dict[str, Any]] = self.report["sections"]
        #: The rows of each plot.
        self.plots: dict[str, list[dict[str, Any]]] = {
            section["name"]: section["plot"]["rows"] for section in self.sections if section["plot"]
        }
        self.text = "\n".join(self._texts())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        self._key = values.get("data-key")

    def handle_endtag(self, tag: str) -> None:
        self._key = None

    def handle_data(self, data: str) -> None:
        if self._key is not None:
            self.blocks[self._key] = data

    def pictures(self) -> list[dict[str, Any]]:
        return [picture for section in self.sections for picture in section["pictures"]]

    def _texts(self) -> Iterator[str]:
        """Yield what the page shows, in its order, but for the plots."""
        report = self.report
        yield from (report["name"], report["summary"])
        for fact in report["facts"].items():
            yield from fact
        yield from (*report["caveats"], *report["findings"])
        for section in self.sections:
            has_something = section["plot"] or section["rows"] or section["pictures"]
            yield section["title"]
            yield from (section["text"] if has_something else "", section["nothing"])
            yield from section["caveats"]
            yield from (picture["caption"] for picture in section["pictures"])
            if section["rows"]:
                yield from (column["title"] for column in section["columns"])
            for row in section["rows"]:
                yield from row
            yield section["rest"]
            for statement in section["statements"].items():
                yield from statement
