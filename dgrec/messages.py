"""Checksummed messages of an Arrow IPC stream: what a journal is made of.

Arrow IPC has no checksums, so after a torn write garbage would be accepted as data. Each message
therefore carries a CRC-32 of itself in its own custom metadata, taken while that place held
zeros: header and body are covered, and the stream is still plain Arrow IPC.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

import pyarrow as pa

from dgrec.untrusted import parse_json

__all__ = [
    *("CRC_KEY", "CRC_ZEROS", "END_OF_STREAM"),
    *("decode", "read_message", "set_checksums", "whole_messages"),
]

_CONTINUATION = b"\xff\xff\xff\xff"
END_OF_STREAM = _CONTINUATION + b"\0\0\0\0"
# The unit separator cannot occur in JSON text, so nothing recorded can look like this.
_CRC_MARK = b"\x1fcrc32:"
CRC_ZEROS = _CRC_MARK + b"00000000"
CRC_KEY = "dgrec.crc32"
#: No header is anywhere near this; a larger length is garbage.
_LARGEST_HEADER = 64 << 20


def set_checksums(data: memoryview) -> None:
    """Fill in the CRC of each message in a run of whole IPC messages."""
    start = 0
    while start < len(data):
        (header_length,) = struct.unpack_from("<i", data, start + 4)
        header = bytes(data[start : start + 8 + header_length])
        length = _message_length(header)
        assert length is not None
        at = start + header.index(CRC_ZEROS) + len(_CRC_MARK)
        data[at : at + 8] = b"%08x" % zlib.crc32(data[start : start + length])
        start += length


def _has_valid_crc(message: memoryview, head: bytes) -> bool:
    at = head.find(_CRC_MARK) + len(_CRC_MARK)
    if at < len(_CRC_MARK):
        return False
    crc = zlib.crc32(message[at + 8 :], zlib.crc32(b"00000000", zlib.crc32(message[:at])))
    return head[at : at + 8] == b"%08x" % crc


def decode(message: pa.Buffer, schema: pa.Schema) -> tuple[pa.RecordBatch, dict[str, Any]]:
    """Return a message's batch and dgrec's note on it.

    Raises:
        pa.ArrowException, ValueError: It is not what its header says. A checksum tells that a
            message is whole, not that whoever wrote it meant well.
    """
    parsed = pa.ipc.read_message(message)
    if parsed.type != "record batch":
        raise ValueError("not a record batch")
    batch = pa.ipc.read_record_batch(parsed, schema)
    # Offsets that lead out of their buffers would end the process when they are followed.
    batch.validate(full=True)
    return batch, _custom_metadata(message)


def _custom_metadata(message: pa.Buffer) -> dict[str, Any]:
    """Return dgrec's JSON note from the message's header.

    pyarrow only gives a batch's custom metadata when it reads a stream from its start, which
    a damaged stream does not allow. The note is the one JSON object in the header that follows
    this length-prefixed mark.
    """
    (header_length,) = struct.unpack_from("<i", message, 4)
    header = bytes(memoryview(message).cast("B")[8 : 8 + header_length])
    at = header.index(b'{"seq":')
    (length,) = struct.unpack_from("<I", header, at - 4)
    note = parse_json(header[at : at + length])
    if not isinstance(note, dict):
        raise ValueError("its note is no object")
    return note


def whole_messages(
    file: BufferedReader[Any], position: int = 0
) -> Iterator[tuple[int, pa.Buffer | None, int]]:
    """Yield (offset, message, damaged bytes before it); a last None stands for a damaged end."""
    size = os.fstat(file.fileno()).st_size
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
        position = _next_continuation(file, position + 8, size)
    if bad_from is not None:
        yield size, None, size - bad_from


def _next_continuation(file: BufferedReader[Any], start: int, size: int) -> int:
    """Return where the next message may begin: they are aligned to 8 bytes."""
    position = start
    while position < size:
        file.seek(position)
        chunk = file.read(1 << 20)
        at = chunk.find(_CONTINUATION)
        while at >= 0 and (position + at) % 8:
            at = chunk.find(_CONTINUATION, at + 1)
        if at >= 0:
            return position + at
        position += len(chunk)
    return size


def read_message(file: BufferedReader[Any], there: int) -> pa.Buffer | None:
    """Return the message at the file's position, or None if it is not whole.

    ``there`` is how many bytes the file has from here on: no more are ever asked for.
    """
    head = _message_head(file)
    length = _message_length(head)
    if length is None or length > there:
        return None
    # Arrow's own memory: the batch is used where it lies, and the next one takes its place.
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


def _message_head(file: BufferedReader[Any]) -> bytes:
    """Return the prefix and the header of the message that begins here; b"" if none does."""
    prefix = file.read(8)
    if len(prefix) < 8 or prefix[:4] != _CONTINUATION:
        return b""
    (header_length,) = struct.unpack("<i", prefix[4:])
    if not 0 < header_length <= _LARGEST_HEADER:
        return b""
    return prefix + file.read(header_length)


def _message_length(head: bytes) -> int | None:
    """Return the length of the IPC message whose prefix and header these are, or None.

    Reads the two fields that say so from the flatbuffer header (``Message.bodyLength`` is the
    fourth field of its table: Arrow's Message.fbs) without trusting anything else in it.
    """
    if len(head) < 8:
        return None
    (header_length,) = struct.unpack_from("<i", head, 4)
    header = head[8:]
    try:
        (table,) = struct.unpack_from("<I", header, 0)
        (back,) = struct.unpack_from("<i", header, table)
        vtable = table - back
        (vtable_size,) = struct.unpack_from("<H", header, vtable)
        # A schema has no body: its table then ends before that field.
        field_offset = struct.unpack_from("<H", header, vtable + 10)[0] if vtable_size > 10 else 0
        body: int = struct.unpack_from("<q", header, table + field_offset)[0] if field_offset else 0
    except struct.error:
        return None
    if len(header) < header_length or body < 0:
        return None
    return 8 + int(header_length) + body
