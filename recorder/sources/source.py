"""Sources as ``--source`` names them, and opening them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import unquote

from dgrec import sample
from dgrec.config import config_file, config_path, expand
from dgrec.credentials import SCHEME, percent_encoded, redact, redact_text, remember
from dgrec.errors import SessionError, SourceError, VideoError
from dgrec.files import is_file, placed, resolved
from dgrec.footage import file_facts
from dgrec.paths import file_word, names_session, numbered_files, session_stem
from dgrec.video import PacketFormat, Picture, digest_of_answer

Kind = Literal["camera", "file", "pipe", "url", "sample", "asset", "session"]

_CAMERA = re.compile(r"cam(\d+)\Z", re.ASCII)
_CAMERA_DIGITS = 4
#: Characters that the name of a file cannot or should not have.
_NOT_IN_FILE_NAMES = re.compile(r"[/\\\0-\x1f\x7f:]+")
_HOST_AND_PATH = re.compile(r"[^:]*://(?:\*\*\*@)?(\[[^]]*\]|[^:/?]*)(?::\d+)?([^?]*)")

_DIGEST_TIMEOUT_S = 3.0

#: What to do about FFmpeg's errors.
_ADVICE = {
    "returned 401": "check the user name and the password",
    "returned 403": "this login may not see the stream",
    "returned 404": "check the path in the address",
    "returned 5xx": "the camera is not ready, or has too many viewers",
    "input/output error": "check the host in the address, and the network",
    "invalid argument": "check the address",
    "invalid data found": "no video that can be read came from this address",
}


@dataclass(frozen=True)
class Source:
    """A source: ``given`` as the user named it, ``target`` as it is opened.

    ``target`` may hold a password. Whatever is printed or recorded uses ``given``, from which
    secrets are removed.
    """

    given: str
    kind: Kind
    target: int | str
    name: str
    #: For a session whose pictures are read from the file that it was recorded from: its facts
    #: about that file.
    recorded: Mapping[str, Any] | None = None

    @property
    def is_file(self) -> bool:
        """Return whether its pictures are in a regular file on this machine, and stay there."""
        return self.kind in ("file", "sample") or self.recorded is not None

    def placed(self) -> Source:
        """Return the source with an absolute path, if it is a path on this machine."""
        if self.kind in ("file", "pipe", "session"):
            return replace(self, target=str(placed(Path(str(self.target)))))
        return self

    def describe(self, session_folder: Path, *, is_live: bool = False) -> dict[str, Any]:
        """Return the facts of the metadata's ``source``; ``is_live`` if it has no end."""
        facts: dict[str, Any] = {"given": self.given, "kind": self.kind, "name": self.name}
        if self.recorded is not None:
            path = resolved(Path(self.recorded["path"]))
            relative = os.path.relpath(path, resolved(session_folder))
            if self.recorded.get("kind") == "file":
                facts["path"] = str(path)
            facts = {**self.recorded, **facts, "kind": self.recorded["kind"]}
            return {**facts, "relative": Path(relative).as_posix()}
        if self.kind in ("file", "sample"):
            about = file_facts(Path(str(self.target)), session_folder)
            if self.kind == "sample":
                del about["path"]
                if about["relative"].startswith(".."):
                    del about["relative"]
            facts |= about
        elif self.kind in ("url", "asset") and not is_live:
            found = digest_of_answer(str(self.target), _DIGEST_TIMEOUT_S)
            if found is not None:
                facts["size"], facts["sha256"] = found
        return facts


def parse_source(text: str, named: dict[str, str] | None = None) -> Source:
    """Return the source that ``text`` names.

    Args:
        text: ``cam0``, a file, a session, a URL, ``sample``, ``asset:NAME``, or a name in
            ``named``.
        named: Names from ``dgrec.toml`` and what they stand for.

    Raises:
        SourceError: There is no such source.
    """
    if not _names_a_file(text):  # a file's name may look like an address with a password
        remember(text)
    if "\0" in text:
        raise SourceError("a source's name cannot hold a NUL")
    if not text.strip():
        raise SourceError("the source's name is empty; give a file, a URL, cam0 or sample")
    if named and text in named:
        meant = parse_source(_as_meant(expand(named[text])))
        name = _NOT_IN_FILE_NAMES.sub("-", text).strip("-. ")[:60] or "source"
        return replace(meant, given=text, name=name)
    if camera := _CAMERA.match(text):
        if len(camera.group(1)) > _CAMERA_DIGITS:
            raise SourceError(f"{text[:20]}...: there is no camera with such a number")
        return Source(text, "camera", int(camera.group(1)), text)
    if text == "sample":
        return Source(text, "sample", str(sample.CLIP), "sample")
    if text.startswith("asset:"):
        return _asset(text)
    if text.lower().startswith("file://"):
        return parse_source(_local_path(text))
    if SCHEME.match(text):
        given = redact(text)
        # From the redacted form: a password may be in the path, and this becomes a file name.
        where = _HOST_AND_PATH.match(given)
        name = _file_name("".join(where.groups()) if where else "")
        return Source(given, "url", percent_encoded(text), name)
    if _is_session(text):
        return _session(text)
    name, mark, _ = text.partition("?")
    if mark and _is_session(name):
        raise SourceError(
            f"{name}: takes no options here: leave out what follows the name, from the ? on (it is "
            "for video sources of degirum_tools)"
        )
    path = Path(text)
    try:
        is_there = path.exists()
    except OSError as error:  # a name that is too long, for example
        raise SourceError(f"{text[:100]}: {(error.strerror or str(error)).lower()}") from None
    if path.is_dir():
        raise SourceError(f"{text}: is a folder; name one video file")
    if not is_there:
        known = f", or one of {', '.join(sorted(named))} (dgrec.toml)" if named else ""
        raise SourceError(
            f"{redact(text)}: no such source; give a file, a URL, cam0 for a camera, sample{known}"
        )
    return Source(text, "file" if path.is_file() else "pipe", str(path), _file_name(path.stem))


def _as_meant(text: str) -> str:
    """Return a source of dgrec.toml with its path, if it is one, as seen from the file."""
    if not text.strip() or text == "sample" or text.startswith("asset:"):
        return text
    if _CAMERA.match(text) or SCHEME.match(text):
        return text
    return str(config_path(config_file(Path.cwd()), text))


def _is_session(text: str) -> bool:
    return names_session(text) and (is_file(Path(text)) or bool(numbered_files(Path(text))))


def _session(text: str) -> Source:
    from dgrec.recorder.sources.session import footage_facts

    try:
        recorded = footage_facts(Path(text))
    except SessionError as error:
        raise SourceError(str(error)) from None
    return Source(text, "session", text, _file_name(session_stem(Path(text))), recorded)


def _names_a_file(text: str) -> bool:
    if text.lower().startswith("file://"):
        text = _local_path(text)
    try:  # options for degirum_tools may follow a session: `walk?pace=fast`
        return Path(text).exists() or _is_session(text.partition("?")[0])
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def _local_path(url: str) -> str:
    """Return the path that a ``file://`` address names."""
    path = url[len("file://") :].removeprefix("localhost")
    with contextlib.suppress(OSError, ValueError):  # too long, or with a NUL
        if Path(path).exists():
            return str(placed(Path(path)))
    return str(placed(Path(unquote(path))))


def _asset(text: str) -> Source:
    """Return one of DeGirum's public example media, which degirum_tools lists from the network."""
    name = text.removeprefix("asset:")
    try:
        from degirum_tools import remote_assets

        videos = dict(remote_assets.list_videos()) if "__errors" not in dir(remote_assets) else {}
    except Exception as error:  # whatever requests and urllib3 raise without a network
        raise SourceError(
            f"{text}: DeGirum's media list cannot be fetched: {_line(error)}"
        ) from None
    if not videos:
        raise SourceError(
            f"{text}: DeGirum's media list cannot be fetched; assets need a network connection "
            "(`--source sample` does not)"
        )
    if name not in videos:
        raise SourceError(f"{text}: no such asset; there are: {', '.join(sorted(videos))}")
    return Source(text, "asset", str(videos[name]), _file_name(name))


def _file_name(text: str) -> str:
    return file_word(text) or "source"


def _line(error: BaseException) -> str:
    lines = redact_text(str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class SourceReader(Protocol):
    """A reader of pictures: `dgrec.video.reader.VideoReader`, or a `CameraReader`."""

    has_end: bool
    announced: int | None
    fps: float | None
    size: tuple[int, int]
    aspect: Fraction
    opening_s: float
    problem: str

    @property
    def frame_count(self) -> int | None:
        """The approximate number of pictures; None if unknown."""

    @property
    def lost_at_end(self) -> int:
        """The number of undecodable pictures after the last one."""

    @property
    def waiting(self) -> int:
        """The number of pictures that the next reads return at once."""

    def read(self) -> Picture | None:
        """Return the next picture; None at the end (see ``problem``)."""

    def keep_packets(self) -> PacketFormat | None:
        """Give each picture its packets from now on; return their format, or None if it cannot."""

    def missing(self) -> str:
        """Return what is missing of the announced pictures, as a text, after the end."""

    def repeats(self, earlier: Any) -> bool:
        """Return whether it starts over with what an earlier reader of the source gave."""

    def release(self) -> None:
        """Close the source."""


def open_source(source: Source, *, stall_timeout_s: float = 10.0) -> SourceReader:
    """Open a source.

    Args:
        stall_timeout_s: How long a network stream may stay silent before a read gives up.

    Raises:
        SourceError: It cannot be opened, or is footage without a picture.
    """
    from dgrec.recorder.sources.camera import CameraReader
    from dgrec.recorder.sources.session import SessionReader
    from dgrec.video import VideoReader

    try:
        if source.kind == "camera":
            return CameraReader(int(source.target))
        if source.kind == "session":
            return SessionReader(Path(str(source.target)))
        if source.kind == "pipe" or source.is_file or not SCHEME.match(str(source.target)):
            return VideoReader(Path(str(source.target)), name=source.given)
        return VideoReader(
            str(source.target),
            name=source.given,
            open_timeout_s=stall_timeout_s,
            read_timeout_s=stall_timeout_s,
        )
    except VideoError as error:
        raise SourceError(_cannot_open(source, error)) from None


def _cannot_open(source: Source, error: VideoError) -> str:
    text = str(error)
    if source.kind == "camera":
        return f"{source.given}: {text}; `dgrec record --source sample` works without one"
    if source.is_file or source.kind in ("pipe", "session"):
        return redact_text(text)
    # Nothing to redact: the reader does not repeat FFmpeg's text, which holds the address.
    advice = next((f"; {advice}" for part, advice in _ADVICE.items() if part in text), "")
    return text.replace("cannot be read as a video", "cannot be opened") + advice
