"""The metadata of a session: one JSON object, kept inside its file.

While recording it stands in the journal's schema; what is only known at the end (end reason,
totals) follows in the journal's last batch. Sealing merges the two.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import secrets
import socket
import time
import uuid
from collections.abc import Mapping
from importlib import metadata as distributions
from typing import Any

from dgrec.credentials import redact_remembered
from dgrec.errors import DamagedSessionError, FormatVersionError, NotASessionError
from dgrec.schema import FORMAT_VERSION
from dgrec.version import __version__

__all__ = [
    *("Metadata", "cuts_of", "dumps", "loads", "new"),
    *("utc_text", "uuid7"),
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
    return json.dumps(_without_secrets(metadata), separators=(",", ":"), ensure_ascii=True)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return redact_remembered(value)
    if isinstance(value, Mapping):
        return {key: _without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(item) for item in value]
    return value


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
