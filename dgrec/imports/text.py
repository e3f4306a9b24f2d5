"""Reading large text files of other programs piece by piece, and saying where they are wrong."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

from dgrec.errors import ImportFileError

_CHUNK: Final = 1 << 18
#: Longer values are refused: the annotations of a picture, with masks, take a few MB.
_LONGEST_VALUE: Final = 64 << 20
#: Characters.
LONGEST_LINE: Final = 1 << 20
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class InvalidError(Exception):
    """Part of a file does not keep to its format.

    Args:
        where: Such as ``line 12`` or ``annotations[3]``.
        problem: What is wrong there.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")


@contextlib.contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file for reading.

    Raises:
        ImportFileError: It cannot be read.
    """
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise ImportFileError(f"{path}: cannot be read: {error.strerror}") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        hint = "is a folder; name a file in it" if stat.S_ISDIR(mode) else "is not a regular file"
        raise ImportFileError(f"{path}: {hint}")
    with open(descriptor, "rb") as file:
        yield file


def head_of(file: IO[bytes]) -> bytes:
    """Return the beginning of a file, from which its format can be seen."""
    file.seek(0)
    head = file.read(1 << 16)
    file.seek(0)
    return head


def _decoded(file: IO[bytes]) -> Iterator[str]:
    """Yield the text of a file, UTF-8 with or without a byte order mark.

    Raises:
        InvalidError: It is not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    lines = 0
    while True:
        data = file.read(_CHUNK)
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            line = 1 + lines + error.object[: error.start].count(b"\n")
            raise InvalidError(f"line {line:,}", "is not UTF-8 text") from None
        lines += text.count("\n")
        yield text
        if not data:
            return


def lines_of(file: IO[bytes]) -> Iterator[str]:
    """Yield the lines of a text file with their ends.

    Raises:
        InvalidError: It is not UTF-8, or a line is too long.
    """
    rest, number = "", 1
    for text in _decoded(file):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield line + "\n"
        number += len(lines)
        if len(rest) > LONGEST_LINE:
            raise InvalidError(f"line {number:,}", f"has more than {LONGEST_LINE:,} characters")
    if rest:
        yield rest


class JsonReader:
    """Reads JSON from a file without holding all of it: the elements of an array one by one.

    Every method raises `InvalidError` where the text is not JSON.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._chunks = _decoded(file)
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._is_whole = False
        #: The line and the column at which the text in memory begins.
        self._first_line = self._first_column = 1

    @property
    def where(self) -> str:
        """The line of the next value."""
        return f"line {self._place(self._at)[0]:,}"

    def _place(self, at: int) -> tuple[int, int]:
        """Return the line and the column of a character in memory."""
        lines = self._text.count("\n", 0, at)
        if lines:
            return self._first_line + lines, at - self._text.rfind("\n", 0, at)
        return self._first_line, self._first_column + at

    def _invalid(self, at: int, problem: str) -> InvalidError:
        line, column = self._place(at)
        return InvalidError(f"line {line:,}, column {column:,}", problem)

    def peek(self) -> str:
        """Return the next character that is not white space; "" at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def value(self) -> Any:
        """Return the next value."""
        self.peek()
        while True:
            try:
                found, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # What is missing may follow in the file.
                is_cut = error.pos > len(self._text) - 16 or error.msg.startswith("Unterminated")
                after = error.pos - self._at
                if is_cut and self._more():
                    continue
                problem = "ends too early" if is_cut else f"is not JSON: {error.msg.lower()}"
                raise self._invalid(self._at + after, problem) from None
            except RecursionError:
                raise self._invalid(self._at, "is nested too deeply") from None
            except ValueError:  # Python reads no number of more than 4,300 digits
                raise self._invalid(self._at, "has a number with too many digits") from None
            # A number may go on in the next piece, also one that ends before `.`, `e` or `e-`.
            length = end - self._at  # as reading on moves the text
            if end > len(self._text) - 3 and isinstance(found, int | float) and self._more():
                continue
            self._at += length
            return found

    def elements(self) -> Iterator[Any]:
        """Yield the elements of the array that follows."""
        for _ in self.rows():
            yield self.value()

    def rows(self) -> Iterator[None]:
        """Yield once for each element of the array that follows; the caller reads it."""
        self._take("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield
            if self._take(",]") == "]":
                return

    def members(self) -> Iterator[str]:
        """Yield the keys of the object that follows; the caller reads or skips each value."""
        self._take("{")
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            if self.peek() != '"':
                raise self._invalid(self._at, "is not JSON: expecting a key in double quotes")
            key = self.value()
            self._take(":")
            self.peek()
            yield key
            if self._take(",}") == "}":
                return

    def skip(self) -> None:
        """Skip the next value, an array element by element."""
        if self.peek() == "[":
            for _ in self.elements():
                pass
        else:
            self.value()

    def end(self) -> None:
        """Check that nothing follows."""
        if self.peek():
            raise self._invalid(self._at, "there is more after the end")

    def _take(self, expected: str) -> str:
        found = self.peek()
        if not found:
            raise self._invalid(self._at, "ends too early")
        if found not in expected:
            wanted = " or ".join(f"'{character}'" for character in expected)
            raise self._invalid(self._at, f"is not JSON: expecting {wanted}")
        self._at += 1
        return found

    def _more(self) -> bool:
        """Read on; return whether there was more."""
        if self._is_whole:
            return False
        if len(self._text) - self._at > _LONGEST_VALUE:
            raise self._invalid(self._at, f"a value takes more than {_LONGEST_VALUE >> 20} MB")
        self._first_line, self._first_column = self._place(self._at)
        # Read half as much again: with less, a long value would be parsed very often.
        pieces, wanted = [self._text[self._at :]], max(1, (len(self._text) - self._at) // 2)
        self._at = 0
        while wanted > 0:
            piece = next(self._chunks, None)
            if piece is None:
                self._is_whole = True
                break
            pieces.append(piece)
            wanted -= len(piece)
        self._text = "".join(pieces)
        return len(pieces) > 1 and any(pieces[1:])
