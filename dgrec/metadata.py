"""The metadata of a session: one JSON object, kept inside its file.

While recording it stands in the journal's schema; what is only known at the end (end reason,
totals) follows in the journal's last batch. Sealing merges the two.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import secrets
import socket
import time
import uuid
from collections.abc import Mapping
from importlib import metadata as distributions
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from dgrec.errors import DamagedSessionError, FormatVersionError, NotASessionError
from dgrec.schema import FORMAT_VERSION
from dgrec.version import __version__

__all__ = [
    *("Metadata", "cuts_of", "dumps", "loads", "new"),
    *("redact", "redact_text", "utc_text", "uuid7"),
]

Metadata = dict[str, Any]

#: What there may be under each key; what is not listed is not looked at by dgrec itself.
_SHAPES: dict[str, tuple[type, str]] = {
    **dict.fromkeys(("session_id", "name", "started_at", "ended_at", "end_reason"), (str, "text")),
    **dict.fromkeys(("source", "model", "overlay", "versions", "host"), (dict, "an object")),
    **dict.fromkeys(("options", "totals", "machine", "clip", "part"), (dict, "an object")),
    **dict.fromkeys(("events", "video", "damage"), (list, "a list")),
}


def new(name: str, started_ns: int) -> Metadata:
    """Return the metadata that every session starts with; the recorder adds what it knows."""
    return {
        "format": {"name": "dgrec", "version": FORMAT_VERSION},
        "session_id": str(uuid7()),
        "name": name,
        "started_at": utc_text(started_ns),
        "ended_at": None,
        "end_reason": None,
        "versions": {
            "dgrec": __version__,
            "degirum": _version("degirum"),
            "degirum_tools": _version("degirum_tools"),
            "pyarrow": _version("pyarrow"),
            "python": platform.python_version(),
        },
        "host": _host(),
    }


def _host() -> dict[str, Any]:
    facts = {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }
    # A container's host name says nothing: DGREC_HOST gives it a better one, or ("") none, and
    # then the kernel, which may name the company that built it, is left out too.
    name = os.environ.get("DGREC_HOST", socket.gethostname())
    return {"name": name, "release": platform.release(), **facts} if name else facts


def dumps(metadata: Mapping[str, Any]) -> str:
    return json.dumps(metadata, separators=(",", ":"), ensure_ascii=True)


def loads(text: bytes | str, path: str) -> Metadata:
    """Return the metadata in ``text``, which was found in the file ``path``.

    Raises:
        DamagedSessionError: The text is no JSON object.
        NotASessionError: It is JSON, but not dgrec's.
        FormatVersionError: It was written by a newer dgrec.
    """
    try:
        value: Any = json.loads(text)
    except ValueError:
        raise DamagedSessionError(
            f"{path}: the session's metadata is damaged; `dgrec verify` tells what can be read"
        ) from None
    form = value.get("format") if isinstance(value, dict) else None
    if not isinstance(form, dict) or form.get("name") != "dgrec":
        raise NotASessionError(f"{path}: not a dgrec session (its metadata has another form)")
    version = form.get("version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{path}: session format {version}, but this dgrec reads up to {FORMAT_VERSION}; "
            "install a newer dgrec to open it"
        )
    for key, (shape, wanted) in _SHAPES.items():
        if value.get(key) is not None and not isinstance(value[key], shape):
            raise NotASessionError(
                f"{path}: not a dgrec session (in its metadata, {key!r} is not {wanted})"
            )
    # An object or a list that is null is not there: nobody has to look out for it then.
    absent = {key for key, (shape, _) in _SHAPES.items() if shape is not str}
    return {key: item for key, item in value.items() if item is not None or key not in absent}


def cuts_of(metadata: Mapping[str, Any]) -> list[int]:
    """Return the frames of a clip that follow the one before though others were between them.

    So begin its moments, but for the first, and those of a clip that it was cut from in turn.
    """
    clip = metadata.get("clip")
    ranges = clip.get("ranges") if isinstance(clip, Mapping) else None
    if not isinstance(clip, Mapping) or not isinstance(ranges, list):
        return []
    earlier = cuts_of(clip)
    found: set[int] = set()
    for item in ranges:
        values = item if isinstance(item, Mapping) else {}
        first, frames, start = (values.get(key) for key in ("first_frame", "frames", "from_frame"))
        if isinstance(first, int):
            found.add(first)
            if isinstance(frames, int) and isinstance(start, int):
                found |= {first + cut - start for cut in earlier if 0 < cut - start < frames}
    return sorted(found - {0})


def utc_text(ns: int) -> str:
    """Return nanoseconds since 1970 as ISO 8601 in UTC, to the microsecond."""
    seconds, rest = divmod(ns, 1_000_000_000)
    stamp = dt.datetime.fromtimestamp(seconds, dt.UTC).replace(microsecond=rest // 1000)
    return stamp.isoformat(timespec="microseconds").replace("+00:00", "Z")


def uuid7() -> uuid.UUID:
    """Return a time-ordered UUID (RFC 9562, version 7): sessions sort by when they began."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def _version(distribution: str) -> str | None:
    try:
        return distributions.version(distribution)
    except distributions.PackageNotFoundError:
        return None


# --- secrets -----------------------------------------------------------------------------------

# Up to the next blank: a password may hold quotes and brackets. What closes the URL in a sentence
# is given back by `redact_text`.
_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
_CLOSING = "'\"<>()[]{},;.!"
# Some cameras want their password in the path (`/user=a_password=b_channel=1`), and GStreamer
# as a property (`user-pw=b`).
_SECRET_ITEM = re.compile(
    r"(?i)((?:pass\w*?|pwd|pw|token|secret|auth|\w*key|sig(?:nature)?)=)"
    r"(?:(?!_[a-z]+=)[^/&;?\s])+"
)


def redact(url: str) -> str:
    """Return ``url`` without user, password, query values and fragment.

    The path stays, since it often names the camera; a query keeps its keys (``?token=***``), which
    tell apart two streams of one device. A URL in which a password cannot be told from the rest
    (it holds a ``/`` or a ``#``) keeps its scheme only.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port
    except ValueError:
        return "***"
    if parts.scheme == "file" or re.match(r"[a-zA-Z]:[\\/]", url):
        return url
    if not parts.netloc:
        # No URL, or a mistyped one: `admin:password@host/stream`, `rtsp:/admin:password@host`.
        head, at, tail = url.rpartition("@")
        path, mark, query = (f"***@{tail}" if at and ":" in head else url).partition("?")
        return _SECRET_ITEM.sub(r"\1***", path) + (f"?{_redact_query(query)}" if mark else "")
    rest = url[url.index(parts.netloc) + len(parts.netloc) :]
    if "@" in rest and "@" not in parts.netloc:
        # `user:12/34@host`: what looks like host and port may be the beginning of a password.
        return f"{parts.scheme}://***" if parts.scheme else "***"
    if ":" in host:
        host = f"[{host}]"
    netloc = host if port is None else f"{host}:{port}"
    if "@" in parts.netloc:
        netloc = f"***@{netloc}"
    path = _SECRET_ITEM.sub(r"\1***", parts.path)
    return urlunsplit((parts.scheme, netloc, path, _redact_query(parts.query), ""))


def _redact_query(query: str) -> str:
    items = [item.partition("=") for item in query.split("&") if item]
    # Without "=" the whole item may be the token.
    return "&".join(f"{key}=***" if equals else "***" for key, equals, _ in items)


def redact_text(text: str) -> str:
    """Return ``text`` (an error of a library, say) with every URL in it redacted."""

    def replace(match: re.Match[str]) -> str:
        url = match.group()
        bare = url.rstrip(_CLOSING)
        return redact(bare) + url[len(bare) :]

    return _SECRET_ITEM.sub(r"\1***", _URL.sub(replace, text))
