"""Linux's Landlock: the kernel keeps a thread from writing files and from the network."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# The numbers are the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _REMOVE_DIR, _REMOVE_FILE = 1 << 0, 1 << 1, 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REGULAR = 1 << 7, 1 << 8
_MAKE_OTHERS = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64)]


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("access", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def refuse_writing(but_in: Path) -> bool:
    """Keep this thread, and those it will start, from writing files, running programs, and TCP.

    Files already open are not affected, nor are other threads. This cannot be undone.

    Args:
        but_in: Folder in which files may be written.

    Returns:
        Whether the kernel does so: Linux 5.13 and later (TCP: 6.7), where it is not switched off.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    if version < 1:
        return False
    inside = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REGULAR
    handled = inside | _EXECUTE | _MAKE_OTHERS
    if version >= 2:
        handled |= _REFER
    if version >= 3:
        handled |= _TRUNCATE
        inside |= _TRUNCATE
    ruleset = _Ruleset(handled, _BIND_TCP | _CONNECT_TCP if version >= 4 else 0)
    # Older kernels know the first field only.
    size = ctypes.sizeof(ruleset) if version >= 4 else 8
    rules = libc.syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), 0)
    if rules < 0:
        return False
    folder = os.open(but_in, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathRule(inside, folder)
        return bool(
            libc.syscall(_ADD_RULE, rules, _RULE_PATH_BENEATH, ctypes.byref(rule), 0) == 0
            and libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            and libc.syscall(_RESTRICT_SELF, rules, 0) == 0
        )
    finally:
        os.close(folder)
        os.close(rules)
