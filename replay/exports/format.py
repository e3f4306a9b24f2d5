"""`ExportFormat`, the base class of export formats, and the registry of formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from dgrec.errors import ConfigError
from dgrec.registry import Registry

if TYPE_CHECKING:
    from dgrec.replay.exports.exported import Exported
    from dgrec.replay.exports.selection import PictureKind


#: The formats by name, once ``FORMATS.load()`` was called.
FORMATS: Registry[ExportFormat] = Registry("dgrec.replay.exports.formats")


class ExportFormat(ABC):
    """A format that sessions are exported to. Each is a subclass, and `FORMATS` has them by name.

    Those of dgrec are in files of their own. A program that defines one can name it.

    Example:

        >>> import dgrec
        >>> class Counts(dgrec.ExportFormat):
        ...     name, title, suffixes = "counts", "how many there are", (".counts",)
        ...     def write(self, exported, path):
        ...         counts = [len(frame.detections) for frame in exported.frames()]
        ...         path.write_text(str(counts))
        >>> with dgrec.open("session.parquet") as session:
        ...     session.export("found.counts").detections
        426
    """

    #: As ``--format`` takes it. No two formats have the same.
    name: ClassVar[str]
    #: A description in a few words.
    title: ClassVar[str]
    #: The suffixes of files from which the format is guessed.
    suffixes: ClassVar[tuple[str, ...]] = ()
    #: The suffix of an output that takes its name from a session; "": the first of ``suffixes``.
    member_suffix: ClassVar[str] = ""
    #: Whether the output is a folder.
    is_folder: ClassVar[bool] = False
    #: The names in a folder, which ``--overwrite`` replaces or removes; the first one is always
    #: there.
    replaced: ClassVar[tuple[str, ...]] = ()
    #: What it can hold of a detection; `LOSSES` of `dgrec.replay.exports.exported` names the rest.
    holds: ClassVar[frozenset[str]] = frozenset()
    #: Whether a detection needs a box, or a track, to be in it.
    needs_box: ClassVar[bool] = True
    needs_track: ClassVar[bool] = False
    #: Whether each detection in it has a class name: one is made up where there is no label.
    names_classes: ClassVar[bool] = False
    #: Columns of frames that it needs besides the usual ones.
    columns: ClassVar[tuple[str, ...]] = ()
    #: The kinds of pictures that it takes; the first is the default. ``video`` is the video as it
    #: is, or pictures where the format cannot show that.
    pictures: ClassVar[tuple[PictureKind | Literal["video"], ...]] = ("none", "jpg", "png")
    #: Whether pictures are inside of the output, which the format then writes itself.
    has_pictures_inside: ClassVar[bool] = False
    #: Whether its output names the video whose frames it counts.
    says_video: ClassVar[bool] = False
    #: Whether it handles splits itself. Otherwise each is an output of its own.
    has_splits: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if isinstance(cls.suffixes, str):
            raise ConfigError(f"class {cls.__qualname__}: suffixes is a text, not a list of them")
        FORMATS.register(cls)

    @abstractmethod
    def write(self, exported: Exported, path: Path) -> None:
        """Write what is exported to a file that exists, or into an empty folder.

        Raises:
            OSError: It cannot be written.
        """

    def picture_name(self, number: int, index: int, split: str, suffix: str) -> str:
        """Return where a picture goes, relative to the output's folder, or that of pictures.

        Args:
            number: Of its frame, in the session.
            index: Of its frame, among those of the split, from 0.
            split: The split.
            suffix: ``.jpg`` or ``.png``.
        """
        return f"frame-{number:06}{suffix}"


def format_of(name: str | None, output: Path) -> ExportFormat:
    """Return the format with this name, or the one that the output's suffix names.

    Raises:
        ConfigError: There is no such format, or the suffix names none.
    """
    formats = FORMATS.load()
    if name is not None:
        if name not in formats:
            raise ConfigError(f"{name!r} is not a format; there are: {', '.join(sorted(formats))}")
        return formats[name]()
    suffix = output.suffix.lower()
    found = [each for each in formats.values() if suffix and suffix in each.suffixes]
    if not found:
        known = sorted({each for form in formats.values() for each in form.suffixes})
        raise ConfigError(
            f"{output}: the name does not say which format; give one with --format, "
            f"or a name with {', '.join(known)}"
        )
    return found[0]()
