"""Prints untrusted text, which must not control the terminal.

Labels, file names, metadata and messages of libraries may hold escape sequences, marks that
reverse the direction of writing, and line breaks that forge a line of ours. Whatever dgrec prints
goes through `echo`, or through a `dgrec.console.Console`; both show such characters as escapes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Literal

from dgrec.credentials import redact_remembered, without_secrets

__all__ = [
    "Colour",
    "detail",
    "echo",
    "is_quiet",
    "is_verbose",
    "line",
    "note",
    "painted",
    "say_written",
    "set_verbosity",
    "shortened",
    "shown",
    "warn",
]

Colour = Literal["red", "green", "yellow"]
_SGR: dict[Colour, int] = {"red": 31, "green": 32, "yellow": 33}

#: Set by `--quiet` (-1) and `--verbose` (1).
_verbosity = 0


def set_verbosity(level: int) -> None:
    """Print fewer (-1), more (1), or the usual (0) messages besides an answer."""
    global _verbosity
    _verbosity = level


def is_quiet() -> bool:
    return _verbosity < 0


def is_verbose() -> bool:
    return _verbosity > 0


def note(text: str) -> None:
    """Print a line on standard error, unless ``--quiet`` was given."""
    if not is_quiet():
        echo(text, err=True)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    echo(f"Warning: {text}", err=True)


def detail(text: str) -> None:
    """Print a line on standard error if ``--verbose`` was given."""
    if is_verbose():
        echo(text, err=True)


#: Longer lines are shortened in the middle: a name may have a megabyte.
_LONGEST = 4_000

# Control characters except the line feed, line separators, marks of direction, characters without
# width or glyph, tags, and bytes of file names that are not UTF-8. The flag of a region, which is
# spelled with tags, is kept.
_STEERING = re.compile(
    "(\U0001f3f4[\U000e0020-\U000e007e]{1,6}\U000e007f)|"
    "[\0-\t\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\ud800-\udfff]"
)
# Used in emoji such as families, and in words of Persian and Hindi.
_JOINERS = "\u200c\u200d"


def shown(text: str) -> str:
    """Return ``text`` with escapes for what would control a terminal, except line feeds."""
    if text.isascii() and text.isprintable():
        return text

    def escape(match: re.Match[str]) -> str:
        at, character = match.start(), match.group()
        if match[1]:
            return character
        if character in _JOINERS and _joins(text[at - 1 : at]) and _joins(text[at + 1 : at + 2]):
            return character
        return _escape(ord(character))

    return _STEERING.sub(escape, text)


def line(text: str) -> str:
    """Return ``text`` as `shown` does, on one line of bounded length, without passwords."""
    text = shortened(redact_remembered(text), _LONGEST)
    return shown(text).replace("\n", "\\n")


def shortened(text: str, most: int) -> str:
    """Return ``text``, without its middle if it is longer than ``most``."""
    if len(text) <= most:
        return text
    half = most // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]} ... ({left_out:,} characters left out) ... {text[-half:]}"


def echo(text: str = "", *, err: bool = False, colour: Colour | None = None) -> None:
    """Print one `line` on standard output, or with ``err`` on standard error.

    Args:
        colour: Used on a terminal, unless NO_COLOR or TERM=dumb says otherwise.

    Raises:
        OSError: Standard output cannot be written. For standard error there is no other place to
            report that.
    """
    if err:
        with contextlib.suppress(OSError):
            _print(text, sys.stderr, colour)
    else:
        _print(text, sys.stdout, colour)


def say_written(
    lines: Iterable[str],
    *,
    as_json: bool,
    path: str | Path | None,
    files: Iterable[Path] | None = None,
    notes: Iterable[str] = (),
    said: Iterable[str] = (),
    **facts: Any,
) -> None:
    """Report what a command wrote: notes on standard error, the rest on standard output.

    Args:
        lines: The report in words, which ``--quiet`` leaves out.
        as_json: ``--json``: one line of JSON instead.
        path: What was written.
        files: Everything that was written, if that is more.
        notes: What the user should know about it.
        said: Notes that were printed already.
        facts: Further members of the line of JSON.
    """
    noted = [note for note in notes if note]
    for each in noted:
        echo(each, err=True)
    noted = [*(note for note in said if note), *noted]
    if as_json:
        names = None if path is None else str(path)
        written = [names] if files is None else list(map(str, files))
        row = {"path": names, "files": [each for each in written if each], **facts, "notes": noted}
        text = json.dumps(without_secrets(row), default=lambda value: redact_remembered(str(value)))
        # JSON does not escape one of the characters that control a terminal.
        sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")
        sys.stdout.flush()
    elif not is_quiet():
        for each in lines:
            echo(each)


def _print(text: str, stream: IO[str] | None, colour: Colour | None) -> None:
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    printable = line(text).encode(encoding, "backslashreplace").decode(encoding)
    if stream.isatty():
        printable = painted(printable, colour)
    stream.write(printable + "\n")
    stream.flush()


def painted(text: str, colour: Colour | None) -> str:
    """Return a text for a terminal in a colour, unless NO_COLOR or TERM=dumb says otherwise."""
    if colour is None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_SGR[colour]}m{text}\x1b[0m"


def _joins(neighbour: str) -> bool:
    """Return whether a joiner next to this character may change how it looks."""
    import unicodedata

    return unicodedata.category(neighbour) in ("So", "Sk", "Lo", "Mn", "Mc") if neighbour else False


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    # From 0x7f on as in JSON, whose texts may hold these characters unescaped.
    if code < 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
