"""The metadata of a session: one JSON object, kept inside its file.

A journal has it in its schema; what is only known at the end (end reason, totals) follows in the
last batch. Sealing merges the two.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import json
import os
import platform
import re
import secrets
import socket
import time
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, TypedDict

import numpy as np

from dgrec.credentials import without_secrets
from dgrec.errors import (
    ConfigError,
    DamagedSessionError,
    FormatVersionError,
    NotASessionError,
)
from dgrec.format.metadata_types import checked
from dgrec.format.schema import FORMAT_VERSION
from dgrec.version import __version__

Metadata = dict[str, Any]
#: Something that happened while recording: its ``kind``, times and more (docs/format.md).
Event = dict[str, Any]
#: The reason for the gap between two runs of one recording.
RESTARTED = "the recorder was started again"


class VideoEntry(TypedDict, total=False):
    """A video that was recorded with a session; keys that are not known yet are absent."""

    file: str
    #: ``raw`` or ``annotated``.
    kind: str
    codec: str
    #: ``kept``: its packets are those of the source.
    packets: str
    width: int
    height: int
    started_at: str
    frames: int
    size: int
    sha256: str
    problem: str


def video_entries(metadata: Mapping[str, Any], kind: str | None = None) -> list[VideoEntry]:
    """Return the videos in a session's metadata, all or those of one kind."""
    entries: list[VideoEntry] = metadata.get("video", [])
    return [entry for entry in entries if kind is None or entry.get("kind") == kind]


_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
#: More elongated pixels do not exist.
_ODDEST_ASPECT = 16

#: Longer texts are refused: the metadata of years of recording takes a tenth of this.
_LONGEST_TEXT = 32 << 20
#: Longer integers become null: Python cannot convert the longest.
_LONGEST_INTEGER = 40


def new(name: str, started_ns: int) -> Metadata:
    """Return the metadata that every session starts with; the recorder adds more."""
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
    # A container's host name is meaningless: DGREC_HOST replaces it, or removes it (""), and then
    # also the kernel's release, which may name the company that built it.
    name = os.environ.get("DGREC_HOST", socket.gethostname())
    return {"name": name, "release": platform.release(), **facts} if name else facts


def dumps(metadata: Mapping[str, Any]) -> str:
    return json.dumps(without_secrets(metadata), separators=(",", ":"), ensure_ascii=True)


def loads(text: bytes | str, path: str) -> Metadata:
    """Return the metadata in ``text``, which was found in the file ``path``, as `parse` does."""
    return parse(text, path)[0]


def parse(text: bytes | str, path: str) -> tuple[Metadata, list[str]]:
    """Return the metadata in ``text``, and the keys whose values are not what they should be.

    Known keys have the types of `dgrec.format.metadata_types` or are absent.

    Raises:
        DamagedSessionError: The text is not JSON.
        NotASessionError: It is JSON, but not dgrec's.
        FormatVersionError: It was written by a newer dgrec.
    """
    return checked(_read_object(text, path))


def given(value: Mapping[str, Any], what: str = "metadata") -> Metadata:
    """Return metadata that a program gives to a recorder, as readers of the session get it.

    Args:
        what: Its name in errors.

    Raises:
        ConfigError: It is not a dictionary, JSON cannot hold it, or a value does not have the type
            in docs/format.md.
    """
    try:
        text = json.dumps(value, default=_python_value)
        found: Any = json.loads(text, parse_constant=lambda _: None)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{what}: cannot be written as JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{what}: a {type(value).__name__} is not a dictionary")
    fits = checked(found)[0]
    for key in found.keys() - fits.keys():
        raise ConfigError(f"{what}: {key!r} does not have the type in docs/format.md")
    return fits


def _python_value(value: object) -> Any:
    """Return a NumPy number as a Python number, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def part_of_metadata(value: Mapping[str, Any]) -> Metadata:
    """Return some keys of metadata that come from elsewhere, as `loads` would."""
    return checked(value)[0]


def _read_object(text: bytes | str, path: str) -> dict[str, Any]:
    try:
        if len(text) > _LONGEST_TEXT:
            raise ValueError("too long")
        value: Any = json.loads(text, parse_int=_integer, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise DamagedSessionError(
            f"{path}: the session's metadata is damaged; `dgrec verify` shows what can be read"
        ) from None
    form = value.get("format") if isinstance(value, dict) else None
    if not isinstance(form, dict) or form.get("name") != "dgrec":
        raise NotASessionError(f"{path}: not a dgrec session (its metadata has another form)")
    version = form.get("version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise FormatVersionError(
            f"{path}: session format {version!s:.40}, but this dgrec reads up to {FORMAT_VERSION}; "
            "install a newer dgrec to open it"
        )
    found: dict[str, Any] = value
    return found


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else None


def cuts_of(metadata: Mapping[str, Any]) -> list[int]:
    """Return the frames at which a session jumps.

    They are the jumps of a clip, including those inherited from a clip of a clip, and the frames
    after parts that were removed because only others are kept.
    """
    clip = metadata.get("clip")
    if clip is None:
        return _after_removed_parts(metadata)
    earlier = cuts_of(clip)
    found: set[int] = set()
    for item in clip.get("ranges", []):
        first, start = item["first_frame"], item.get("from_frame")
        found.add(first)
        if start is None:
            continue
        # Ranges do not overlap: each earlier jump is in one of them at most.
        within = slice(bisect_right(earlier, start), bisect_left(earlier, start + item["frames"]))
        found.update(first + cut - start for cut in earlier[within])
    return sorted(found - {0})


def _after_removed_parts(metadata: Mapping[str, Any]) -> list[int]:
    parts = metadata.get("parts", [])
    if not parts or not metadata.get("options", {}).get("keep_only"):
        return []
    return [
        later["first_frame"]
        for earlier, later in itertools.pairwise(parts)
        if later["first_frame"] > earlier["first_frame"] + earlier["frames"]
    ]


def source_size(metadata: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height of the source's frames, 0 if unknown."""
    source = metadata.get("source", {})
    return source.get("width") or 0, source.get("height") or 0


def result_type(metadata: Mapping[str, Any]) -> str | None:
    """Return PySDK's name for the kind of results, such as ``Segmentation``."""
    kind = metadata.get("model", {}).get("result_type")
    return kind if isinstance(kind, str) else None


def pixel_aspect(metadata: Mapping[str, Any]) -> Fraction:
    """Return width / height of a pixel of the source; 1 if unknown."""
    text = metadata.get("source", {}).get("pixel_aspect") or ""
    found = re.fullmatch(r"([1-9]\d{0,8})(?::([1-9]\d{0,8}))?", text)
    if found is None:
        return Fraction(1)
    aspect = Fraction(int(found[1]), int(found[2] or 1))
    return aspect if 1 / _ODDEST_ASPECT <= aspect <= _ODDEST_ASPECT else Fraction(1)


def utc_ns(moment: dt.datetime) -> int:
    """Return nanoseconds since 1970 of a datetime with a time zone."""
    return (moment - _EPOCH) // dt.timedelta(microseconds=1) * 1000


def utc_us(moment: dt.datetime | None) -> int | None:
    """Return microseconds since 1970 of a datetime with a time zone; None for None."""
    return None if moment is None else utc_ns(moment) // 1000


def stamp_us(text: Any) -> int | None:
    """Return a stamp of the metadata in microseconds since 1970; None if it is not a stamp."""
    try:
        return utc_ns(dt.datetime.fromisoformat(str(text))) // 1000
    except (TypeError, ValueError, OverflowError):  # not a stamp, without a zone, or damaged
        return None


def known_end(last_result: str | None, metadata: Mapping[str, Any]) -> str | None:
    """Return the last known time of a recorder that did not record its end: a result or alert.

    (An alert may have come after the last result: one that no result came for too long.)
    """
    alerts = (e for e in metadata.get("events", []) if e.get("kind") in ("alert", "alert_end"))
    stamps = [last_result, *(event.get("at") for event in alerts)]
    known = [str(stamp) for stamp in stamps if stamp_us(stamp) is not None]
    return max(known, key=lambda stamp: stamp_us(stamp) or 0, default=last_result)


def is_live(metadata: Mapping[str, Any]) -> bool:
    """Return whether the frames came from a live source, which does not wait to be read.

    (Sessions without ``source.live`` are older: then all addresses were taken for live.)
    """
    source = metadata.get("source", {})
    live = source.get("live")
    return live if isinstance(live, bool) else source.get("kind") in ("camera", "url")


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


@functools.cache  # each takes a millisecond or two
def _version(distribution: str) -> str | None:
    from importlib import metadata as distributions

    try:
        return distributions.version(distribution)
    except distributions.PackageNotFoundError:
        return None
