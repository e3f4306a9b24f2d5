"""The body of a web server's answer, as a file to read from."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import tempfile
import time
import urllib.request
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

#: A longer answer gets no digest, since that means loading it twice.
_MOST_BYTES = 256 << 20
_MOST_S = 10.0
#: Characters of an address that are not quoted; %, so that nothing is quoted twice.
_ALLOWED = "%/?#:@!$&'()*+,;=~[]|"
#: A longer MP4 is not loaded into a temporary file.
_MOST_LOADED = 4 << 30
#: Beginnings of playlists: their digest says nothing about the pictures.
_PLAYLISTS = (b"#EXTM3U", b"<?xml", b"<MPD", b"ffconcat")


def is_web_address(address: str) -> bool:
    return address.partition(":")[0].lower() in ("http", "https")


def quoted(address: str) -> str:
    """Return a web address as browsers send it, with spaces, umlauts and the like as %XX."""
    if not is_web_address(address):
        return address
    scheme, separator, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host}{slash}{quote(path, safe=_ALLOWED)}"


def digest_of_answer(address: str, timeout_s: float) -> tuple[int, str] | None:
    """Return size and SHA-256 of an address's content; None if that would take long."""
    if not is_web_address(address):
        return None
    try:
        with contextlib.closing(HttpBody(address, timeout_s)) as body:
            if body.length is None or body.length > _MOST_BYTES:
                return None
            digest, size, due = hashlib.sha256(), 0, time.monotonic() + _MOST_S
            while data := body.read(1 << 20):
                if not size and data.startswith(_PLAYLISTS):
                    return None
                digest.update(data)
                size += len(data)
                if time.monotonic() > due:
                    return None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return (size, digest.hexdigest()) if size == body.length else None


def load_mp4(address: str, timeout_s: float) -> IO[bytes] | None:
    """Load an MP4 into a temporary file, for servers that only send files from their start.

    FFmpeg needs the index, which may be at the end. None if it is not an MP4, or too large.
    """
    if not is_web_address(address):
        return None
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it is handed on
    try:
        with contextlib.closing(HttpBody(address, timeout_s)) as body:
            while data := body.read(1 << 20):
                file.write(data)
                if file.tell() > _MOST_LOADED or (file.tell() > 12 and not _is_mp4(file)):
                    break
            else:
                if not body.is_broken and _is_mp4(file):
                    file.seek(0)
                    return file
    except (OSError, ValueError, http.client.HTTPException):
        pass
    file.close()
    return None


def _is_mp4(file: IO[bytes]) -> bool:
    end = file.tell()
    file.seek(4)
    kind = file.read(4)
    file.seek(end)
    return kind == b"ftyp"


class HttpBody:
    """Reads an address's content once, from its beginning.

    FFmpeg's own reader takes the end of an answer of unknown length for an error, and then loses
    its last pictures.

    Args:
        timeout_s: How long the server may be silent.
        part: First byte and the byte to stop before; (0, 0) for all.

    Raises:
        OSError: The server cannot be reached, or refuses.
    """

    def __init__(self, address: str, timeout_s: float, part: tuple[int, int] = (0, 0)) -> None:
        parts = urlsplit(quoted(address))
        host = parts.netloc.rpartition("@")[2]
        request = urllib.request.Request(urlunsplit(parts._replace(netloc=host, fragment="")))
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            request.add_header(
                "Authorization", f"Basic {base64.b64encode(login.encode()).decode()}"
            )
        start, end = part
        if start or end:
            request.add_header("Range", f"bytes={start}-{end - 1 if end else ''}")
        self._answer: Any = urllib.request.urlopen(request, timeout=timeout_s)
        #: The address that the server redirected to, if it did.
        self.moved_to: str | None = None
        if self._answer.url != request.full_url:
            self.moved_to = self._answer.url
        #: Announced length in bytes, if the server sends it.
        length = self._answer.headers.get("Content-Length", "")
        self.length = int(length) if length.isdecimal() else None
        #: Whether the answer broke off before its end.
        self.is_broken = False
        #: Bytes still to come, if known.
        self._left = self.length
        if (start or end) and self._answer.status != http.client.PARTIAL_CONTENT:
            self._skip(start)  # the server sends whole files only
            self._left = end - start if end else self._left

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, as soon as there are any; none at the end."""
        try:
            data: bytes = self._answer.read1(size if self._left is None else min(size, self._left))
        except (OSError, http.client.HTTPException):
            self.is_broken = True
            return b""
        if self._left is not None:
            self._left -= len(data)
            if not data and self._left:
                self.is_broken = True  # to http.client this is an ordinary end
        return data

    def _skip(self, count: int) -> None:
        while count > 0 and (data := self.read(min(count, 1 << 16))):
            count -= len(data)

    def close(self) -> None:
        self._answer.close()
