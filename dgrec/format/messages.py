"""Checksummed messages of an Arrow IPC stream: what a journal is made of.

Arrow IPC has no checksums: after a torn write, garbage would be accepted as data. Each message
therefore carries a CRC-32 of its header and body in its custom metadata, computed with zeros in
place of the CRC. The stream is still plain Arrow IPC.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

import pyarrow as pa

from dgrec.format.untrusted import parse_json

_CONTINUATION = b"\xff\xff\xff\xff"
END_OF_STREAM = _CONTINUATION + b"\0\0\0\0"
# JSON text cannot contain the unit separator, so nothing recorded looks like this.
_CRC_MARK = b"\x1fcrc32:"
CRC_ZEROS = _CRC_MARK + b"00000000"
CRC_KEY = "dgrec.crc32"
#: A larger length is garbage.
_LARGEST_HEADER = 64 << 20
#: A message may begin here: the length of its header is plausible.
_BEGINNING = re.compile(rb"(?=\xff\xff\xff\xff...[\x00-\x04])", re.DOTALL)
#: Bytes that are searched at a time, and those after them in which headers may end.
_CHUNK, _HEAD = 1 << 18, 1 << 16
#: Bytes that may be read in vain while searching for messages: in all, and per byte of the file.
_IN_VAIN, _IN_VAIN_A_BYTE = 256 << 20, 16


def set_checksums(data: bytearray) -> None:
    """Fill in the CRC of each message in a run of whole IPC messages."""
    start = 0
    with memoryview(data) as view:
        while start < len(data):
            (header_length,) = struct.unpack_from("<i", data, start + 4)
            length = _length_from(view[start + 8 :], header_length)
            assert length is not None
            at = data.index(CRC_ZEROS, start) + len(_CRC_MARK)
            data[at : at + 8] = b"%08x" % zlib.crc32(view[start : start + length])
            start += length


def _has_valid_crc(message: memoryview, head: bytes) -> bool:
    at = head.find(_CRC_MARK) + len(_CRC_MARK)
    if at < len(_CRC_MARK):
        return False
    crc = zlib.crc32(message[at + 8 :], zlib.crc32(b"00000000", zlib.crc32(message[:at])))
    return head[at : at + 8] == b"%08x" % crc


def decode(message: pa.Buffer, schema: pa.Schema) -> tuple[pa.RecordBatch, dict[str, Any]]:
    """Return a message's batch and dgrec's metadata of it.

    Raises:
        pa.ArrowException, ValueError: It contradicts its header. (A valid checksum shows that a
            message is whole, not that it is harmless.)
    """
    parsed = pa.ipc.read_message(message)
    if parsed.type != "record batch":
        raise ValueError("not a record batch")
    batch = pa.ipc.read_record_batch(parsed, schema)
    # Following offsets that lead out of their buffers would crash the process.
    batch.validate(full=True)
    return batch, _custom_metadata(message)


def _custom_metadata(message: pa.Buffer) -> dict[str, Any]:
    """Return dgrec's JSON object from the message's header.

    pyarrow returns a batch's custom metadata only when it reads a stream from its start, which
    a damaged stream does not allow. The text is preceded by its length.
    """
    (header_length,) = struct.unpack_from("<i", message, 4)
    header = bytes(memoryview(message)[8 : 8 + header_length])
    at = header.index(b'{"seq":')
    (length,) = struct.unpack_from("<I", header, at - 4)
    note = parse_json(header[at : at + length].decode())
    if not isinstance(note, dict):
        raise ValueError("its metadata is not an object")
    return note


def whole_messages(
    file: BufferedReader[Any], position: int = 0
) -> Iterator[tuple[int, pa.Buffer | None, int]]:
    """Yield (offset, message, damaged bytes before it); the message is None for a damaged end.

    Reading in vain is bounded: each of many broken messages may claim to be as long as the rest of
    the file. Real damage stays far from the bound; in a hostile file that reaches it, the
    rest counts as damaged.
    """
    size = os.fstat(file.fileno()).st_size
    search = _Search(file.fileno(), size)
    bad_from: int | None = None
    while position < size:
        file.seek(position)
        message = read_message(file, size - position)
        if message is not None:
            yield position, message, 0 if bad_from is None else position - bad_from
            bad_from = None
            position += message.size
            continue
        file.seek(position)
        if file.read(8) == END_OF_STREAM:
            position += 8
            continue
        if bad_from is None:
            bad_from = position
        position = search.next_whole(position + 8)
    if bad_from is not None:
        yield size, None, size - bad_from


class _Search:
    """Finds the next whole message after a damaged one, during one pass over a file."""

    def __init__(self, file: int, size: int) -> None:
        self._file = file
        self._size = size
        #: How many bytes may still be looked at.
        self._left = _IN_VAIN + _IN_VAIN_A_BYTE * size

    def next_whole(self, start: int) -> int:
        """Return the message's offset, a multiple of 8, or the file's size if there is none."""
        position = start
        while position < self._size and self._left >= 0:
            chunk = os.pread(self._file, _CHUNK + _HEAD, position)
            self._left -= len(chunk)
            for match in _BEGINNING.finditer(chunk, 0, _CHUNK + 8):
                at, there = match.start(), self._size - position - match.start()
                if at >= _CHUNK or self._left < 0:
                    break
                if (position + at) % 8:
                    continue
                if self._is_likely(chunk, at, there) and self._is_whole(position + at, there):
                    return position + at
            position += _CHUNK
        return self._size

    def _is_likely(self, chunk: bytes, at: int, there: int) -> bool:
        """Return whether a message may begin at this byte of a chunk."""
        (header_length,) = struct.unpack_from("<i", chunk, at + 4)
        if not 0 < header_length <= min(_LARGEST_HEADER, there - 8):
            return False
        # The length of the message is near the beginning of its header.
        length = _length_from(chunk[at + 8 : at + 8 + min(header_length, 256)], header_length)
        if length is None or length > there:
            return False
        end = at + 8 + header_length
        if end > len(chunk):
            return True
        self._left -= header_length
        return chunk.find(_CRC_MARK, at, end) >= 0

    def _is_whole(self, position: int, there: int) -> bool:
        reader = _At(self._file, position)
        is_whole = read_message(reader, there) is not None
        self._left -= reader.count
        return is_whole


class _At:
    """Reads a file from an offset, without reading ahead."""

    def __init__(self, file: int, position: int) -> None:
        self._file = file
        self._position = position
        self.count = 0

    def read(self, size: int) -> bytes:
        data = os.pread(self._file, size, self._position + self.count)
        self.count += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:
        count = os.preadv(self._file, [buffer], self._position + self.count)
        self.count += count
        return count


def read_message(file: BufferedReader[Any] | _At, there: int) -> pa.Buffer | None:
    """Return the message at the file's position, or None if it is not whole.

    ``there`` is how many bytes follow in the file: a longer message is not read.
    """
    head = _message_head(file)
    length = _message_length(head)
    if length is None or length > there:
        return None
    # In Arrow's memory, the batch is used without a copy.
    message = pa.allocate_buffer(length)
    view = memoryview(message).cast("B")
    view[: len(head)] = head
    filled = len(head)
    while filled < length:
        count = file.readinto(view[filled:])
        if not count:
            return None
        filled += count
    return message if _has_valid_crc(view, head) else None


def _message_head(file: BufferedReader[Any] | _At) -> bytes:
    """Return prefix and header of the message that begins here, or b""."""
    prefix = file.read(8)
    if len(prefix) < 8 or prefix[:4] != _CONTINUATION:
        return b""
    (header_length,) = struct.unpack("<i", prefix[4:])
    if not 0 < header_length <= _LARGEST_HEADER:
        return b""
    return prefix + file.read(header_length)


def _message_length(head: bytes) -> int | None:
    """Return the length of the IPC message whose prefix and header these are, or None.

    Of the flatbuffer header only ``Message.bodyLength`` is used, the fourth field of its table
    (Arrow's Message.fbs).
    """
    if len(head) < 8:
        return None
    (header_length,) = struct.unpack_from("<i", head, 4)
    header = head[8:]
    return _length_from(header, header_length) if len(header) >= header_length else None


def _length_from(header: bytes | memoryview, header_length: int) -> int | None:
    """Return the length of a message from the beginning of its header."""
    try:
        (table,) = struct.unpack_from("<I", header, 0)
        (back,) = struct.unpack_from("<i", header, table)
        vtable = table - back
        if vtable < 0:
            return None
        (vtable_size,) = struct.unpack_from("<H", header, vtable)
        # A schema has no body, and its table ends before that field.
        field_offset = struct.unpack_from("<H", header, vtable + 10)[0] if vtable_size > 10 else 0
        body: int = struct.unpack_from("<q", header, table + field_offset)[0] if field_offset else 0
    except struct.error:
        return None
    if body < 0:
        return None
    return 8 + int(header_length) + body
