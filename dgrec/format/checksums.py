"""Checksums of a whole sealed file, inside that file.

Parquet's page checksums cover neither page headers nor the footer, and most readers ignore them.
dgrec therefore puts a block between the last page and the footer, where Parquet allows anything:
the CRC-32 of every MiB before it and of the footer after it. The file stays ordinary Parquet.

Layout of the block, little-endian: one u32 per MiB, u32 CRC of footer, u32 number of MiBs, u32 CRC
of the block up to here, 8 bytes ``DGRCSUM1``.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from dgrec.errors import DamagedSessionError, NotASessionError, SessionError
from dgrec.files import placed

_MAGIC = b"DGRCSUM1"
_BLOCK = 1 << 20
_TAIL = struct.Struct("<II8s")


def append_checksums(file: BinaryIO) -> None:
    """Insert the block into the finished Parquet file ``file`` (open for reading and writing)."""
    footer_at, footer = _footer(file, "the new file")
    sums = _block_sums(file, footer_at)
    body = struct.pack(f"<{len(sums)}II", *sums, zlib.crc32(footer))
    body += struct.pack("<I", len(sums))
    file.seek(footer_at)
    file.write(body + struct.pack("<I8s", zlib.crc32(body), _MAGIC) + footer)


def verify_checksums(path: Path) -> bool:
    """Check every byte of a sealed file; return False if it has no checksums.

    A file without them was rewritten by another tool.

    Raises:
        NotASessionError: It is not a Parquet file.
        DamagedSessionError: A checksum differs; the message names the damaged bytes.
    """
    checksums = Checksums.read(path)
    if checksums is not None:
        checksums.check()
    return checksums is not None


class Checksums:
    """The checksums of a sealed file. Each block is compared once, when it is needed."""

    def __init__(
        self, path: Path, place: Path, sums: Sequence[int], end: int, file: os.stat_result
    ) -> None:
        self.path = path
        self._place = place
        self._file = file
        #: The end of the bytes that the checksums cover.
        self.end = end
        self._sums = sums
        self._is_checked = bytearray(len(sums))

    @classmethod
    def read(cls, path: Path, place: Path | None = None) -> Checksums | None:
        """Check the footer and return the checksums of the bytes before it, if the file has any.

        Args:
            path: The file's name in messages.
            place: Its absolute path; None: that of ``path`` now.

        Raises:
            NotASessionError: It is not a Parquet file.
            DamagedSessionError: The footer or the checksums are damaged.
        """
        place = place or placed(path)
        with place.open("rb") as file:
            footer_at, footer = _footer(file, str(path))
            file.seek(max(0, footer_at - _TAIL.size))
            tail = file.read(min(footer_at, _TAIL.size))
            if len(tail) < _TAIL.size:
                return None
            count, block_sum, magic = _TAIL.unpack(tail)
            if magic != _MAGIC:
                return None
            body_size = 4 * (count + 2)
            body_at = footer_at - 12 - body_size
            if body_at < 0:
                raise DamagedSessionError(f"{path}: damaged at its end (checksum block)")
            file.seek(body_at)
            body = file.read(body_size)
            stat = os.fstat(file.fileno())
        if zlib.crc32(body) != block_sum:
            raise DamagedSessionError(f"{path}: damaged at its end (checksum block)")
        *sums, footer_sum, _ = struct.unpack(f"<{count + 2}I", body)
        if zlib.crc32(footer) != footer_sum:
            raise DamagedSessionError(f"{path}: damaged at its end (Parquet footer)")
        if -(-body_at // _BLOCK) != count:
            raise DamagedSessionError(f"{path}: damaged (its length is wrong)")
        return cls(path, place, sums, body_at, stat)

    @property
    def unchecked_bytes(self) -> int:
        """The approximate number of bytes not compared yet."""
        return self._is_checked.count(0) * _BLOCK

    def check(self, ranges: Iterable[tuple[int, int]] | None = None) -> None:
        """Compare the blocks that hold these ranges of bytes; all blocks by default.

        Raises:
            DamagedSessionError: A checksum differs; the message names the damaged bytes.
            SessionError: The file was replaced or removed.
        """
        wanted: set[int] = set()
        for start, end in [(0, self.end)] if ranges is None else ranges:
            wanted.update(range(max(start, 0) // _BLOCK, -(-min(end, self.end) // _BLOCK)))
        wanted = {block for block in wanted if not self._is_checked[block]}
        if not wanted:
            return
        bad = []
        try:
            with self._place.open("rb") as file:
                if not os.path.samestat(self._file, os.fstat(file.fileno())):
                    raise SessionError(f"{self.path}: was replaced after it was opened")
                for block in sorted(wanted):
                    file.seek(block * _BLOCK)
                    data = file.read(min(_BLOCK, self.end - block * _BLOCK))
                    if zlib.crc32(data) == self._sums[block]:
                        self._is_checked[block] = 1
                    else:
                        bad.append(block)
        except OSError as error:
            raise SessionError(f"{self.path}: cannot be read: {error.strerror}") from None
        if bad:
            raise DamagedSessionError(
                f"{self.path}: damaged: {len(bad)} of {len(wanted)} blocks of 1 MiB differ from "
                f"what was written, the first at byte {bad[0] * _BLOCK:,}; restore the file from "
                "a copy"
            )


def _footer(file: BinaryIO, name: str) -> tuple[int, bytes]:
    """Return (offset, bytes) of the Parquet footer, its length and magic included."""
    size = file.seek(0, os.SEEK_END)
    if size < 12:
        raise NotASessionError(f"{name}: not a dgrec session (too short)")
    file.seek(0)
    starts_as_parquet = file.read(4) == b"PAR1"
    file.seek(size - 8)
    length, magic = struct.unpack("<I4s", file.read(8))
    if magic != b"PAR1" or length + 12 > size:
        if starts_as_parquet:
            raise DamagedSessionError(
                f"{name}: truncated or damaged (no Parquet footer at its end); restore it from a "
                "copy, or recover the journal (NAME.arrows) if it is still there"
            )
        raise NotASessionError(f"{name}: not a dgrec session (neither Parquet nor a journal)")
    footer_at = size - 8 - length
    file.seek(footer_at)
    return footer_at, file.read()


def _block_sums(file: BinaryIO, end: int) -> list[int]:
    file.seek(0)
    return [zlib.crc32(file.read(min(_BLOCK, end - at))) for at in range(0, end, _BLOCK)]
