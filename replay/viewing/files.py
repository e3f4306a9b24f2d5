"""Files by ranges of their bytes, as video players ask for them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

from aiohttp import web

from dgrec.serving import PAGE_HEADERS

#: Bytes read and sent at a time; no more of a file is in memory for a client.
_PIECE: Final = 256 << 10
_RANGE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})\s*", re.ASCII)


def folder_size(folder: Path) -> int:
    """Return the bytes of all files in a folder, some of which may vanish meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def open_regular(path: Path, inode: int | None = None) -> BinaryIO:
    """Open a file; never a pipe or a device, nor one that has taken its place.

    Raises:
        FileNotFoundError: It is not there, or another one is.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    facts = os.fstat(file.fileno())
    if not stat.S_ISREG(facts.st_mode) or inode not in (None, facts.st_ino):
        file.close()
        raise FileNotFoundError(path)
    return file


async def serve_file(
    request: web.BaseRequest, file: BinaryIO, mime: str, *, name: str = ""
) -> web.StreamResponse:
    """Send a file, or the range that is asked for, as it is read; the file is closed.

    A file may grow meanwhile: a later request gets what has been added.

    Args:
        name: Browsers save it under this name, and do not show it.
    """
    try:
        facts = os.fstat(file.fileno())
        etag = f'"{facts.st_ino:x}-{facts.st_size:x}-{facts.st_mtime_ns:x}"'
        modified = formatdate(facts.st_mtime, usegmt=True)
        headers = {
            **PAGE_HEADERS,
            "Content-Type": mime or "application/octet-stream",
            "Accept-Ranges": "bytes",
            "ETag": etag,
            "Last-Modified": modified,
            "Cache-Control": "private, no-cache",
        }
        if name:
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name)}"
        start, stop, status = 0, facts.st_size, 200
        wanted = request.headers.get("Range")
        if wanted is not None and request.headers.get("If-Range", etag) in (etag, modified):
            span = _span(wanted, facts.st_size)
            if span is None:
                headers["Content-Range"] = f"bytes */{facts.st_size}"
                return web.Response(status=416, headers=headers)
            if span != (-1, -1):
                start, stop = span
                status = 206
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{facts.st_size}"
        elif wanted is None and etag in _tags(request.headers.get("If-None-Match", "")):
            return web.Response(status=304, headers=headers)
        headers["Content-Length"] = str(stop - start)
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        if request.method != "HEAD":
            await _send(response, file, start, stop)
            await response.write_eof()
        return response
    finally:
        file.close()


async def _send(response: web.StreamResponse, file: BinaryIO, start: int, stop: int) -> None:
    loop = asyncio.get_running_loop()
    at = start
    while at < stop:
        piece = await loop.run_in_executor(
            None, os.pread, file.fileno(), min(_PIECE, stop - at), at
        )
        if not piece:  # it was cut meanwhile: what was announced cannot be sent
            response.force_close()
            raise ConnectionResetError("the file has become shorter")
        await response.write(piece)  # waits for the client
        at += len(piece)


def _span(text: str, size: int) -> tuple[int, int] | None:
    """Return the range of a header; (-1, -1): it is to be ignored; None: it cannot be satisfied."""
    match = _RANGE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        return -1, -1  # several ranges, or another unit
    if not match[1]:
        length = int(match[2])
        return (max(0, size - length), size) if length and size else None
    start = int(match[1])
    stop = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < start:
        return -1, -1
    return (start, stop) if start < size else None


def _tags(text: str) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in text.split(",")]
