"""`ImportFormat`: the base class of the formats that can be imported, and their registry."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import IO, ClassVar, Final

from dgrec.errors import ConfigError
from dgrec.imports.frames import Facts, Frames, Input
from dgrec.imports.text import InvalidError, head_of
from dgrec.registry import Registry

#: Beginnings of files that have to be converted first.
_FOREIGN: Final = {
    b"\xff\xfe": "is UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "is UTF-16 text; save it as UTF-8",
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
    b"PAR1": "is Parquet, which is not imported: a session is opened as it is",
}


@dataclass(frozen=True)
class Head:
    """The beginning of a file, by which its format is recognized."""

    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode("utf-8-sig", "replace").lstrip()

    @property
    def keys(self) -> frozenset[str]:
        """JSON keys in it, at any depth."""
        return frozenset(re.findall(r'"([^"\\]{1,40})"\s*:', self.text))

    @property
    def first_cells(self) -> list[str]:
        return self.first_cells_by(",")

    def first_cells_by(self, delimiter: str) -> list[str]:
        lines = self.text.splitlines()
        return [cell.strip().strip('"') for cell in lines[0].split(delimiter)] if lines else []

    def has_keys(self, start: str, *keys: str, without: str = "") -> bool:
        """Return whether it is JSON that begins with ``start``, and has these keys, not others.

        Args:
            without: The others, separated by spaces.
        """
        packed = re.sub(r"\s+", "", self.text[:200])
        found, others = self.keys, {*without.split()}
        return packed.startswith(start) and found.issuperset(keys) and not found & others


#: The formats by name, once ``FORMATS.load()`` was called.
FORMATS: Registry[ImportFormat] = Registry("dgrec.imports.formats")


class ImportFormat(ABC):
    """A format that can be imported. Each is a subclass in a file of its own.

    `FORMATS` has them by name.
    """

    #: As ``--format`` takes it.
    name: ClassVar[str]
    #: A description in a few words.
    title: ClassVar[str]
    #: Whether a frame may have several results.
    repeats_frames: ClassVar[bool] = False
    #: Whether the format itself converts coordinates to pixels.
    is_in_pixels: ClassVar[bool] = False

    #: Which of the options that not every format has a use for it reads, named as in `import_`:
    #: ``labels``, ``frame_column``, ``field``.
    reads_options: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        FORMATS.register(cls)

    @abstractmethod
    def is_it(self, head: Head) -> bool:
        """Return whether a file begins like this format, and like no other."""

    @abstractmethod
    def read(self, given: Input, facts: Facts) -> Frames:
        """Yield the frames of a file in the order of their numbers.

        Raises:
            InvalidError: The file does not keep to the format.
        """


def find_format(name: str) -> ImportFormat:
    """Return the format with this name.

    Raises:
        ConfigError: There is none.
    """
    formats = FORMATS.load()
    if name not in formats:
        known = ", ".join(sorted(formats))
        raise ConfigError(f"{name!r} is not a format that can be imported; there are: {known}")
    return formats[name]()


def format_of(file: IO[bytes]) -> ImportFormat:
    """Return the format that a file looks like.

    Raises:
        InvalidError: It looks like none.
    """
    head = Head(head_of(file))
    for start, problem in _FOREIGN.items():
        if head.data.startswith(start):
            raise InvalidError("its beginning", problem)
    for format_class in FORMATS.load().values():
        if (found := format_class()).is_it(head):
            return found
    what = "is empty" if not head.data.strip() else "is of no format that dgrec imports"
    raise InvalidError("its beginning", f"{what} (docs/imports.md)")
