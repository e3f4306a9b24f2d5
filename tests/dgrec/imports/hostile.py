"""Damaged and hostile variants of files: bytes that were flipped, cut or replaced, odd values."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

__all__ = ["variants"]

#: What is put in the place of a number.
_NUMBERS = (
    *b"1e308 -1e308 1e400 NaN Infinity -1 0 1e9 -0.0 99999999999999999999 4294967296 0.5 null true "
    b'"1" "" [] {} [1,2] {"$ndarray":[]} nan inf 1_000 0x10'.split(),
    b"9" * 5000,
    b"[" * 5000,
    b'"\\ud800"',
    "\u0664".encode(),
    b"1\n2",
)
#: What is put in the place of a text.
_TEXTS = (
    b'""',
    b'"a\\nb"',
    b'"\\ud800"',
    b'"../../../etc/passwd"',
    b"7",
    b"null",
    b'"\xff"',
    b'"' + b"x" * 20_000 + b'"',
    b'"$ndarray"',
    b"[]",
    b'"__proto__"',
    b'"\\u0000"',
)
_BYTES = (
    b"\x00",
    b"\xff",
    b"<",
    b">",
    b"&",
    b'"',
    b",",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\n",
    b"\\",
    b"-",
)


def variants(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Yield variants of a file, the same for each seed."""
    chance = random.Random(seed)
    numbers = [found.span() for found in re.finditer(rb"-?\d+(?:\.\d+)?", data)]
    texts = [found.span() for found in re.finditer(rb'"[^"\n]*"', data)]
    for _ in range(count):
        kind = chance.randrange(7)
        at = chance.randrange(len(data))
        if kind == 0:
            yield data[:at]
        elif kind == 1:
            yield data[:at] + chance.choice(_BYTES) + data[at + 1 :]
        elif kind == 2:
            yield data[:at] + data[at + chance.randrange(1, 60) :]
        elif kind == 3:
            end = at + chance.randrange(1, 200)
            yield data[:end] + data[at:]
        elif kind == 4 and texts:
            start, end = chance.choice(texts)
            yield data[:start] + chance.choice(_TEXTS) + data[end:]
        elif numbers:
            start, end = chance.choice(numbers)
            yield data[:start] + chance.choice(_NUMBERS) + data[end:]
