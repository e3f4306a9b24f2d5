"""The files that a playlist names (HLS), opened so that missing and incomplete ones are noticed.

FFmpeg skips a segment that it cannot open, or that ends early, without an error.
"""

from __future__ import annotations

import http.client
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from dgrec.video.http_body import HttpBody
from dgrec.video.truncation import EndWatch


class PlaylistFiles:
    """Opens files for FFmpeg, as PyAV's ``io_open``.

    Args:
        timeout_s: How long a web server may be silent.

    Attributes:
        is_refused: Whether FFmpeg has to open something itself, such as encrypted segments.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._files: list[_File] = []
        self._missing: list[str] = []
        #: Folders of playlists, and where they were redirected to.
        self._moved: dict[str, str] = {}
        self.is_refused = False

    @property
    def problems(self) -> list[str]:
        """The files that were missing or incomplete, a line each, without folders and logins."""
        return [*self._missing, *(f"{f.name}: {f.problem}" for f in self._files if f.problem)]

    def __call__(self, url: str, flags: int, options: Mapping[str, str]) -> Any:
        address = urlsplit(url)
        name = Path(unquote(address.path)).name
        part = int(options.get("offset", "0")), int(options.get("end_offset", "0"))
        source: HttpBody | BinaryIO
        try:
            if address.scheme.lower() in ("http", "https"):
                source = self._ask_for(url, part)
            elif address.scheme.lower() in ("", "file"):
                name = Path(url.removeprefix("file:")).name
                source = Path(url.removeprefix("file:")).open("rb")  # noqa: SIM115 - see `close`
            else:
                self.is_refused = True
                return io.BytesIO()
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "reason", None)
            self._missing.append(f"{name}: {str(reason or 'no answer').lower()}")
            return io.BytesIO()  # empty, so that FFmpeg goes on with the next one
        self._files.append(_File(name, source))
        return self._files[-1]

    def close(self) -> None:
        for file in self._files:  # PyAV leaves some open
            file.close()

    def _ask_for(self, url: str, part: tuple[int, int]) -> HttpBody:
        for folder, other in self._moved.items():
            if url.startswith(folder):
                url = other + url.removeprefix(folder)
        body = HttpBody(url, self._timeout_s, part)
        address = urlsplit(url)
        is_playlist = address.path.lower().endswith((".m3u8", ".m3u"))
        if body.moved_to is not None and is_playlist and address.username is None:
            # FFmpeg would look for segments beside the address that it asked for.
            self._moved[_folder(url)] = _folder(body.moved_to)
        return body


class _File:
    """One file, and whether it was complete, which is known once its end was read."""

    def __init__(self, name: str, source: HttpBody | BinaryIO) -> None:
        self.name = name
        self.problem = ""
        self._source = source
        self._watch = EndWatch()
        if not isinstance(source, HttpBody):
            self.seek, self.tell = self._seek, source.tell

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._watch.see(data)
        if not data:
            if isinstance(self._source, HttpBody) and self._source.is_broken:
                self.problem = "the connection broke off"
            elif self._watch.is_cut_off:
                self.problem = "ends early"
        return data

    def close(self) -> None:
        self._source.close()

    def _seek(self, offset: int, whence: int = 0) -> int:
        assert not isinstance(self._source, HttpBody)
        at = self._source.seek(offset, whence)
        self._watch.go_to(at)
        return at


def _folder(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[0] + "/"
