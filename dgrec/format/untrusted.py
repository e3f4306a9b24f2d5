"""Reading what may have been made to do harm: JSON, deflated data, sizes that a file claims.

Sessions are shared, so nothing in a file is trusted. Whatever stands for more than it takes in the
file is counted against an `Allowance` before it is made.
"""

from __future__ import annotations

import json
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dgrec.errors import NotASessionError

__all__ = ["Allowance", "DecodeError", "check_file", "inflate", "open_file", "parse_json"]

_MB: Final = 1 << 20
#: What the arrays of one frame may take, whatever its size, and however large it is.
_LEAST_BYTES: Final = 64 * _MB
_MOST_BYTES: Final = 512 * _MB
#: Sixteen masks of the frame's own size, in float64.
_BYTES_PER_PIXEL: Final = 16 * 8
#: Lists and objects in the JSON of one frame: outlines of a thousand objects, 500 points each,
#: are half as many. Python takes half a second for them.
_MOST_CONTAINERS: Final = 1_000_000
#: Values in it: four lists of the numbers of a picture of two megapixels.
_MOST_VALUES: Final = 8_000_000


class DecodeError(ValueError):
    """Data that dgrec did not write, or that stands for more than it may."""


@dataclass
class Allowance:
    """How much may still be made of what a row holds: bytes of arrays, values in JSON.

    A few hundred bytes of deflated zeros can stand for gigabytes. What a frame's results can be is
    bounded by its pixels: an object's mask lies inside the frame, and a class map has the size of
    the model's output.
    """

    bytes_left: int = _LEAST_BYTES
    containers_left: int = _MOST_CONTAINERS
    values_left: int = _MOST_VALUES

    @classmethod
    def for_frame(cls, width: int | None, height: int | None) -> Allowance:
        """Return what the results of a frame of this size may take: 64 to 512 MiB."""
        pixels = max(0, width or 0) * max(0, height or 0)
        return cls(min(max(_LEAST_BYTES, pixels * _BYTES_PER_PIXEL), _MOST_BYTES))

    def take(self, size: int) -> None:
        """Count ``size`` bytes that are about to be made.

        Raises:
            DecodeError: They are more than what is left.
        """
        if not 0 <= size <= self.bytes_left:
            raise DecodeError(f"stands for {size:,} bytes, more than such a frame can hold")
        self.bytes_left -= size

    def take_text(self, text: str) -> None:
        """Count what a JSON text stands for that is about to be parsed.

        Raises:
            DecodeError: They are more than what is left.
        """
        self.containers_left -= text.count("{") + text.count("[")
        self.values_left -= text.count(",")
        if self.containers_left < 0:
            raise DecodeError(f"its JSON holds more than {_MOST_CONTAINERS:,} lists and objects")
        if self.values_left < 0:
            raise DecodeError(f"its JSON holds more than {_MOST_VALUES:,} values")


def inflate(data: bytes, most: int) -> bytes:
    """Return deflated ``data``, which must not be longer than ``most`` bytes.

    Raises:
        DecodeError: It is longer, torn, or not deflated.
    """
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise DecodeError(f"deflated data is damaged: {error}") from None
    if len(plain) > most:
        raise DecodeError(f"deflated data is longer than the {most:,} bytes that it should be")
    if not unpacker.eof:
        raise DecodeError("deflated data ends too early")
    return plain


def parse_json(text: str | bytes, allowance: Allowance | None = None) -> Any:
    """Return the value of a JSON text.

    Args:
        allowance: What it may hold, where it is part of a frame; it is counted down.

    Raises:
        DecodeError: It is no JSON, nested deeper than Python can read, or holds more.
    """
    if allowance is not None and isinstance(text, str):
        allowance.take_text(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise DecodeError(f"not valid JSON: {reason}") from None


def open_file(path: Path, buffering: int = -1) -> Any:
    """Open a file for reading, in binary.

    Raises:
        NotASessionError: It is something else.
        OSError: There is no such file, or it cannot be opened.
    """
    check_file(path)
    return path.open("rb", buffering)


def check_file(path: Path) -> None:
    """Check that a file is none of the special kinds.

    Raises:
        NotASessionError: It is a folder, a pipe, a device. Opening a pipe would wait for somebody
            to write to it, and a device may have no end.
        OSError: There is no such file.
    """
    kind = path.stat().st_mode
    if stat.S_ISDIR(kind):
        raise NotASessionError(f"{path}: cannot be read: it is a folder; name one session in it")
    if not stat.S_ISREG(kind):
        raise NotASessionError(f"{path}: cannot be read: it is a pipe or a device, not a file")
