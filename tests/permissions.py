"""Permissions of files that hold for root, too."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

_VERSION_3 = 0x20080522
#: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
_LOOKS_EVERYWHERE = 1 << 1 | 1 << 2


@contextlib.contextmanager
def permissions() -> Iterator[None]:
    """Give up root's right to open any file, in this thread, within the block."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: 32 bits, and 32 more
    _call(libc.capget, header, data)
    effective = data[0]
    data[0] &= ~_LOOKS_EVERYWHERE
    _call(libc.capset, header, data)
    try:
        yield
    finally:
        data[0] = effective
        _call(libc.capset, header, data)


def _call(function: object, *arguments: object) -> None:
    assert callable(function)
    if function(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
