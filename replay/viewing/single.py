"""The page in one file, with its data inside."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib import resources
from typing import Final

#: The characters of keys and data: none has a meaning in HTML.
_KEY: Final = re.compile(r"[a-z0-9/.-]+", re.ASCII)
_DATA: Final = re.compile(r"[A-Za-z0-9+/=]*", re.ASCII)


def single_page(blocks: Mapping[str, str]) -> bytes:
    """Return the page with blocks of data, by their keys: base64, as of `packed`.

    Nothing else may run in it, and nothing is loaded: its policy names its script by a hash.
    """
    script, style = _static("page.js"), _static("page.css")
    data = []
    for key, text in blocks.items():
        if not _KEY.fullmatch(key) or not _DATA.fullmatch(text):
            raise ValueError(f"{key}: not base64")
        data.append(f'<script type="text/plain" data-key="{key}">{text}</script>')
    parts = {
        "script-hash": _hash(script),
        "style-hash": _hash(style),
        "style": style,
        "script": script,
        "data": "\n".join(data),
    }
    page = re.sub("<!--([a-z-]+)-->", lambda match: parts[match[1]], _static("single.html"))
    return page.encode()


def _static(name: str) -> str:
    found = resources.files("dgrec.replay.viewing").joinpath("static", name)
    return found.read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
