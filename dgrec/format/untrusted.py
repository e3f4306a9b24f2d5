"""Reading untrusted JSON, deflated data and sizes: sessions come from other people.

Whatever is larger in memory than in the file is counted against an `Allowance` first.
"""

from __future__ import annotations

import json
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dgrec.errors import NotASessionError

_MB: Final = 1 << 20
#: Memory for the arrays of a frame, whatever its size: the least and the most.
_LEAST_BYTES: Final = 64 * _MB
_MOST_BYTES: Final = 512 * _MB
#: Sixteen masks of the frame's own size, in float64.
_BYTES_PER_PIXEL: Final = 16 * 8
#: Lists and objects in the JSON of a frame, which Python parses in half a second. Outlines of a
#: thousand objects with 500 points each are half as many.
_MOST_CONTAINERS: Final = 1_000_000
#: Values in the JSON of a frame: as many as four pictures of two megapixels.
_MOST_VALUES: Final = 8_000_000


class DecodeError(ValueError):
    """Data that dgrec did not write, or that is too large once decoded."""


@dataclass
class Allowance:
    """The bytes of arrays and values of JSON that may still be decoded from a row.

    A few hundred bytes of deflated zeros can become gigabytes. Real results are bounded by the
    frame's pixels: a mask lies inside the frame, a class map has the size of the model's output.
    """

    bytes_left: int = _LEAST_BYTES
    containers_left: int = _MOST_CONTAINERS
    values_left: int = _MOST_VALUES

    @classmethod
    def for_frame(cls, width: int | None, height: int | None) -> Allowance:
        """Return the allowance for a frame of this size: 64 to 512 MiB."""
        pixels = max(0, width or 0) * max(0, height or 0)
        return cls(min(max(_LEAST_BYTES, pixels * _BYTES_PER_PIXEL), _MOST_BYTES))

    def take(self, size: int) -> None:
        """Count ``size`` bytes that are about to be allocated.

        Raises:
            DecodeError: They are too many.
        """
        if not 0 <= size <= self.bytes_left:
            raise DecodeError(f"decodes to {size:,} bytes, more than such a frame can hold")
        self.bytes_left -= size

    def take_text(self, text: str) -> None:
        """Count the values of a JSON text that is about to be parsed.

        Raises:
            DecodeError: They are too many.
        """
        self.containers_left -= text.count("{") + text.count("[")
        self.values_left -= text.count(",")
        if self.containers_left < 0:
            raise DecodeError(f"its JSON holds more than {_MOST_CONTAINERS:,} lists and objects")
        if self.values_left < 0:
            raise DecodeError(f"its JSON holds more than {_MOST_VALUES:,} values")


def inflate(data: bytes, most: int) -> bytes:
    """Return inflated ``data`` of at most ``most`` bytes.

    Raises:
        DecodeError: It is longer, incomplete, or not deflated.
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
        allowance: How much it may hold, if it is part of a frame; it is counted down.

    Raises:
        DecodeError: It is not JSON, is nested too deeply for Python, or holds too much.
    """
    if allowance is not None and isinstance(text, str):
        allowance.take_text(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise DecodeError(f"not valid JSON: {reason}") from None


def open_file(path: Path, buffering: int = -1, *, place: Path | None = None) -> Any:
    """Open a file for reading, in binary.

    Args:
        path: Its name in messages.
        place: Where it is, if ``path`` may be another file by now: the program changed its folder.

    Raises:
        NotASessionError: It is a folder, a pipe or a device.
        OSError: There is no such file, or it cannot be opened.
    """
    check_file(path, place)
    return (place or path).open("rb", buffering)


def check_file(path: Path, place: Path | None = None) -> None:
    """Check that a path is a plain file: opening a pipe may wait, and a device may have no end.

    The arguments are those of `open_file`.

    Raises:
        NotASessionError: It is a folder, a pipe or a device.
        OSError: There is no such file.
    """
    kind = (place or path).stat().st_mode
    if stat.S_ISDIR(kind):
        raise NotASessionError(f"{path}: cannot be read: it is a folder; name one session in it")
    if not stat.S_ISREG(kind):
        raise NotASessionError(f"{path}: cannot be read: it is a pipe or a device, not a file")
