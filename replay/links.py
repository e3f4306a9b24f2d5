"""Links to frames on the page of `dgrec view`, and the commands that show them there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import pyarrow as pa

from dgrec.credentials import forget
from dgrec.errors import ConfigError, QueryError
from dgrec.format import is_utf8
from dgrec.paths import JOURNAL_SUFFIX, SESSION_SUFFIX
from dgrec.replay.output import QueryResult

#: Given instead of an address: commands instead of links.
COMMAND = "command"
#: Parts of a session's path in a link: the server finds it by fewer, too.
_PARTS = 3


def fragment(session: str, frame: int | None = None, other: str = "") -> str:
    """Return the part of an address from # on that shows a recording on the page.

    Args:
        session: Its name on the server.
        frame: Number of the frame.
        other: Name of the recording beside it.
    """
    fields = {"s": session, "b": other, "f": "" if frame is None else str(frame)}
    return "#" + "&".join(f"{name}={quote(text)}" for name, text in fields.items() if text)


def parse_links(text: str) -> Links:
    """Return links to an address that `dgrec view` has printed, or commands for ``command``.

    Raises:
        ConfigError: It is neither.
    """
    if text == COMMAND:
        return Links("")
    try:
        address = urlsplit(text)
        is_address = address.scheme in ("http", "https") and bool(address.hostname)
    except ValueError:
        is_address = False
    if not is_address or any(c.isspace() or not c.isprintable() for c in text):
        raise ConfigError(
            f"{text!r} is neither an address that dgrec view prints, such as "
            f"http://127.0.0.1:8080/, nor {COMMAND!r}"
        )
    forget(text)  # a link without its token does not open
    return Links(text.partition("#")[0])


class Links:
    """Links to frames, or commands that show them.

    Args:
        address: That of a running `dgrec view`; "": commands that start one.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def to(self, session: Path, frame: int | None, other: Path | None = None) -> str:
        """Return the link or command that shows a frame, with that of another session beside it.

        Example:
            >>> from pathlib import Path
            >>> parse_links("http://127.0.0.1:8080/").to(Path("recordings/monday.parquet"), 240)
            'http://127.0.0.1:8080/#s=recordings/monday&f=240'
            >>> parse_links("command").to(Path("recordings/monday.parquet"), 240)
            'dgrec view recordings/monday.parquet --frame 240'
        """
        if self.address:
            beside = "" if other is None else _name(other)
            return self.address + fragment(_name(session), frame, beside)
        words = ["dgrec view", _quoted(session), *([] if other is None else [_quoted(other)])]
        return " ".join([*words, *([] if frame is None else [f"--frame {frame}"])])


def _quoted(path: Path) -> str:
    text = str(path)
    if is_utf8(text):
        return shlex.quote(text)
    # Text can name such a path only with escapes, which bash, zsh and ksh read.
    text = text.replace("\\", r"\\").replace("'", r"\'")
    return f"$'{text.encode(errors='surrogateescape').decode(errors='backslashreplace')}'"


def _name(session: Path) -> str:
    name = session.name.removesuffix(JOURNAL_SUFFIX).removesuffix(SESSION_SUFFIX)
    folders = [part for part in session.parent.parts if part not in ("..", session.anchor)]
    text = "/".join([*folders, name][-_PARTS:])
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def with_links(result: QueryResult, links: Links, sessions: Mapping[str, Path]) -> QueryResult:
    """Return a result with a column ``link`` after the others, null where there is no frame.

    Args:
        sessions: The paths of the sessions by their ids; with several, the rows must say which.

    Raises:
        QueryError: The result does not say which frames its rows are about.
    """
    frame = _column(result.schema, "frame", is_number=True)
    session = _column(result.schema, "session_id")
    if frame is None or (session is None and len(sessions) != 1):
        missing = "session_id" if frame is not None else "frame"
        raise QueryError(
            f"--links: the result has no column {missing!r}, which says where its rows are from"
        )
    only = next(iter(sessions.values())) if session is None else None
    name = "link"
    while name in result.schema.names:
        name += "_"

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in result.batches:
            frames = batch.column(frame).to_pylist()
            ids = [None] * len(frames) if session is None else batch.column(session).to_pylist()
            paths = [only or sessions.get(str(each)) for each in ids]
            found = [
                None if path is None or number is None else links.to(path, int(number))
                for path, number in zip(paths, frames, strict=True)
            ]
            columns = [*batch.columns, pa.array(found, pa.string())]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    schema = result.schema.append(pa.field(name, pa.string()))
    return QueryResult(schema, batches())


def _column(schema: pa.Schema, name: str, *, is_number: bool = False) -> int | None:
    for at, field in enumerate(schema):
        if field.name.lower() == name and (not is_number or pa.types.is_integer(field.type)):
            return at
    return None
