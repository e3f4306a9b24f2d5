"""Sinks take finished pictures: an MP4, a folder of pictures."""

from __future__ import annotations

import contextlib
import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dgrec.errors import OutputError
from dgrec.files import NewFolder, Unfinished, check_new_file, check_new_folder, output_error
from dgrec.session import RecordedResult
from dgrec.video import Image, VideoWriter, check_output

_JPEG_QUALITY = 92


class Sink(Unfinished):
    """Takes finished pictures, in order."""

    #: Pictures written so far.
    frames: int = 0

    @abstractmethod
    def write(self, image: Image, pts_us: int, duration_us: int, result: RecordedResult) -> None:
        """Append ``image``, to be shown ``pts_us`` microseconds after the start.

        Args:
            pts_us: When it is shown.
            duration_us: For how long.
            result: The frame that it shows.

        Raises:
            OutputError: It cannot be written (the disk is full, say).
        """

    def notes(self) -> list[str]:
        """Return what the user should know at the end, a line each."""
        return []


class _OpenSink(Protocol):
    def __call__(self, path: Path, width: int, height: int, *, overwrite: bool) -> Sink: ...


class _Check(Protocol):
    def __call__(self, path: Path, *, overwrite: bool) -> object: ...


@dataclass(frozen=True)
class Target:
    """A kind of output: how to open it, and what pictures it takes."""

    open: _OpenSink
    #: Raises `OutputError` if the output cannot be written, before any work is done.
    check: _Check = check_new_file
    #: Whether width and height have to be even.
    even: bool = False
    #: Whether all pictures have to be of one size.
    one_size: bool = True


class _Movie(Sink):
    """An MP4."""

    def __init__(self, path: Path, width: int, height: int, *, overwrite: bool) -> None:
        self._writer = VideoWriter(path, width, height, overwrite=overwrite)

    def write(self, image: Image, pts_us: int, duration_us: int, result: RecordedResult) -> None:
        self._writer.write(image, pts_us, duration_us)
        self.frames += 1

    def finish(self) -> None:
        self._writer.finish()

    def discard(self) -> None:
        self._writer.discard()


MP4 = Target(_Movie, check_output, even=True)


class PictureFolder(Sink):
    """A folder of PNG or JPEG files, named by the frame's number: ``frame-000123.png``.

    Args:
        suffix: ``.png`` or ``.jpg``.
        overwrite: Whether pictures of this kind in it may be replaced; other files stay.

    Raises:
        OutputError: The folder cannot be written.
    """

    def __init__(self, path: Path, suffix: str, *, overwrite: bool) -> None:
        check_new_folder(path, overwrite=overwrite)
        self._path, self._suffix, self._overwrite = path, suffix, overwrite
        with output_errors(path, lambda: None):
            self._new = NewFolder(path)

    def write(self, image: Image, pts_us: int, duration_us: int, result: RecordedResult) -> None:
        with output_errors(self._path, self.discard):
            file = self._new.temporary / f"frame-{result.frame:06}{self._suffix}"
            file.write_bytes(encode_picture(image, self._suffix))
        self.frames += 1

    def finish(self) -> None:
        with output_errors(self._path, self.discard):
            self._new.finish(self._merge)

    def _merge(self, folder: Path) -> None:
        if not self._overwrite:
            check_new_folder(folder, overwrite=False)  # it was empty when this began
        for old in earlier_pictures(folder):
            old.unlink()
        for new in sorted(self._new.temporary.iterdir()):
            os.replace(new, folder / new.name)

    def discard(self) -> None:
        self._new.discard()


def earlier_pictures(folder: Path) -> list[Path]:
    """Return the files in a folder that have the names of pictures that dgrec wrote."""
    names = re.compile(r"frame-\d{6,}\.(png|jpg)")
    return [path for path in folder.iterdir() if names.fullmatch(path.name) and not path.is_dir()]


def picture_folder(suffix: str) -> Target:
    """Return the target for a folder of pictures; ``suffix`` is ``.png`` or ``.jpg``."""
    return Target(
        lambda path, width, height, *, overwrite: PictureFolder(path, suffix, overwrite=overwrite),
        check_new_folder,
        one_size=False,
    )


def encode_picture(image: Image, suffix: str) -> bytes:
    """Return ``image`` as a PNG or JPEG file."""
    import cv2

    # Level 2 takes twice as long for a tenth fewer bytes.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    if suffix != ".png":
        options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    ok, data = cv2.imencode(suffix, image, options)
    if not ok:
        raise OutputError(f"a picture of {image.shape[1]}x{image.shape[0]} is too large")
    return data.tobytes()


@contextlib.contextmanager
def output_errors(path: Path, discard: Callable[[], None]) -> Iterator[None]:
    """Turn an error of the file system into an `OutputError`, after calling ``discard``."""
    try:
        yield
    except OSError as error:
        discard()
        raise output_error(path, error) from None
