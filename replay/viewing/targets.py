"""Places of an export's data: scripts and files in a folder, or blocks inside one page."""

from __future__ import annotations

import base64
import shutil
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, BinaryIO, Final

from dgrec.files import output_errors
from dgrec.replay.viewing.values import json_bytes

_LEVEL: Final = 6


def packed(value: Any) -> str:
    """Return a value as the page reads it: JSON, deflated, in base64."""
    return _packed(json_bytes(value))


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, _LEVEL)).decode()


class Target(ABC):
    """Takes the parts of an export, each under a key such as ``0/rows-3``."""

    def put(self, key: str, value: Any) -> None:
        """Add a value that JSON can hold (`json_bytes`)."""
        self.put_json(key, json_bytes(value))

    @abstractmethod
    def put_json(self, key: str, data: bytes) -> None:
        """Add a value that is JSON already."""

    @abstractmethod
    def put_file(self, key: str, data: bytes) -> None:
        """Add a file that browsers load by themselves, such as a picture."""


class FolderTarget(Target):
    """Writes each part as a file: pages that were opened from a file load scripts and nothing else.

    Raises (from its methods):
        OutputError: A file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put_json(self, key: str, data: bytes) -> None:
        # Neither a key nor base64 has anything to escape.
        self.put_file(f"{key}.js", f'dgrecData("{key}","{_packed(data)}");\n'.encode())

    def put_file(self, key: str, data: bytes) -> None:
        path = self.path(key)
        with output_errors(path):
            path.write_bytes(data)

    def copy(self, key: str, source: BinaryIO) -> None:
        """Add a copy of a file, however large it is."""
        path = self.path(key)
        with output_errors(path), path.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)

    def path(self, key: str) -> Path:
        """Return the path of a part, and make its folder."""
        path = self.folder / key
        with output_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path


class PageTarget(Target):
    """Keeps all parts, as blocks of a page."""

    def __init__(self) -> None:
        self.blocks: dict[str, str] = {}

    def put_json(self, key: str, data: bytes) -> None:
        self._keep(key, _packed(data))

    def put_file(self, key: str, data: bytes) -> None:
        self._keep(key, base64.b64encode(data).decode())

    def _keep(self, key: str, text: str) -> None:
        self.blocks[key] = text
