"""Checksums of a whole sealed file, inside that file.

Parquet's own page checksums cover the data of pages but neither page headers nor the footer, and
most readers do not look at them. dgrec therefore puts a block between the last page and the
footer, where Parquet allows anything: the CRC-32 of every MiB before it and of the footer after
it. The file stays ordinary Parquet.

Layout of the block, little-endian: one u32 per MiB, u32 CRC of footer, u32 number of MiBs, u32 CRC
of the block up to here, 8 bytes ``DGRCSUM1``.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from dgrec.errors import DamagedSessionError, NotASessionError

__all__ = ["append_checksums", "verify_checksums"]

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

    A file without them was rewritten by another tool: readable, but nothing vouches for it.

    Raises:
        NotASessionError: The file is no Parquet file at all.
        DamagedSessionError: A checksum differs; the message names the damaged bytes.
    """
    with path.open("rb") as file:
        footer_at, footer = _footer(file, str(path))
        file.seek(max(0, footer_at - _TAIL.size))
        tail = file.read(min(footer_at, _TAIL.size))
        if len(tail) < _TAIL.size:
            return False
        count, block_sum, magic = _TAIL.unpack(tail)
        if magic != _MAGIC:
            return False
        body_size = 4 * (count + 2)
        body_at = footer_at - 12 - body_size
        if body_at < 0:
            raise DamagedSessionError(f"{path}: damaged at its end (checksum block)")
        file.seek(body_at)
        body = file.read(body_size)
        if zlib.crc32(body) != block_sum:
            raise DamagedSessionError(f"{path}: damaged at its end (checksum block)")
        *sums, footer_sum, _ = struct.unpack(f"<{count + 2}I", body)
        if zlib.crc32(footer) != footer_sum:
            raise DamagedSessionError(f"{path}: damaged at its end (Parquet footer)")
        actual = _block_sums(file, body_at)
        if len(actual) != count:
            raise DamagedSessionError(f"{path}: damaged (its length is wrong)")
        bad = [
            index for index, pair in enumerate(zip(sums, actual, strict=True)) if len({*pair}) > 1
        ]
        if bad:
            first = bad[0] * _BLOCK
            raise DamagedSessionError(
                f"{path}: damaged: {len(bad)} of {count} blocks of 1 MiB differ from what was "
                f"written, the first at byte {first:,}; restore the file from a copy"
            )
    return True


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
    sums = []
    position = 0
    while position < end:
        chunk = file.read(min(_BLOCK, end - position))
        if not chunk:
            break
        sums.append(zlib.crc32(chunk))
        position += len(chunk)
    return sums
