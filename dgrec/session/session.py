"""`Session`: reads a recorded session."""

from __future__ import annotations

import contextlib
import copy
import operator
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, overload

import pyarrow as pa

from dgrec.arguments import check_text, one_or_more, optional_path
from dgrec.errors import (
    DamagedSessionError,
    DgrecError,
    NotASessionError,
    QueryError,
    SessionError,
    VideoError,
    value_text,
)
from dgrec.files import placed
from dgrec.format import SCHEMA, DecodeError, Journal, Metadata
from dgrec.paths import JOURNAL_SUFFIX, sealed_path
from dgrec.session.file import RecordedFile, damaged_frame, each_row, flat_detections
from dgrec.session.membership import first_frame
from dgrec.session.names import session_file
from dgrec.session.notebook import session_card
from dgrec.session.notices import Notices
from dgrec.session.parts import Part, PartSet
from dgrec.session.result import RecordedResult
from dgrec.terminal import detail
from dgrec.units import counted

if TYPE_CHECKING:
    import duckdb

    from dgrec.analyzers import Notice
    from dgrec.footage import Pixels
    from dgrec.replay.exports import ExportReport


class Session:
    """One recording: a sealed file (``.parquet``), a journal (``.arrows``), or a set of parts.

    A recording in parts is named without a number: ``NAME.parquet`` or ``NAME``, if no file has
    that name but NAME-0001.parquet and so on exist. A part named itself is opened alone. ``NAME``
    also stands for NAME.parquet or NAME.arrows, and a recorded video for the session beside it.

    Rows are read when they are asked for. `frames` and `detections` load everything; `batches`,
    iteration and `sql` need bounded memory for a file of any length.

    Threads may share a session for all but `sql`, and wait for each other.

    Args:
        check: Whether sealed files are compared with their checksums, as they are read.

    Raises:
        SessionError: The file is missing, not a session, damaged, or of a newer format.
        TypeError: What was given is not a path.

    Example:
        >>> import dgrec
        >>> with dgrec.open("session.parquet") as session:
        ...     faces = [len(result.results) for result in session]
        ...     session.sql("SELECT count(*) FROM detections").fetchall() == [(sum(faces),)]
        True
    """

    def __init__(self, path: str | os.PathLike[str], *, check: bool = True) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                f"a session is a path, or what dgrec.open returns, not {value_text(path)}"
            )
        if not os.fspath(path):  # a variable that is not set; Path("") is the current folder
            raise NotASessionError("the name of a session is empty")
        if "\0" in str(Path(path)):
            raise NotASessionError("a name cannot hold a NUL")
        self._open(path, check)
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._closed = False
        self._notices: Notices | None = None
        detail(f"{self.path}: {counted(len(self), 'frame')}")

    def _open(self, given: str | os.PathLike[str], check: bool) -> None:
        #: Its name in messages; its absolute path is `place`.
        self.path = session_file(Path(given))
        self.place = placed(self.path)
        try:
            self._rows = _rows_of(self.path, given, place=self.place, check=check)
        except NotASessionError:
            # The journal that a name stood for may have been sealed since.
            if session_file(Path(given)) == self.path:
                raise
            self._open(given, check)

    # --- facts ---

    @property
    def sealed(self) -> bool:
        """Return whether this is a sealed file, not a journal (for a set: all parts are)."""
        return self._rows.sealed

    @property
    def has_checksums(self) -> bool:
        """Return whether sealed files have checksums (for a set: whether all do)."""
        return self._rows.has_checksums

    @property
    def unchecked_bytes(self) -> int:
        """The number of bytes of sealed files not yet compared with their checksums."""
        return self._rows.unchecked_bytes

    def check(self, columns: str | Collection[str] | None = None) -> None:
        """Compare sealed files with their checksums, which is also done as rows are read.

        Args:
            columns: The columns to compare, or one; None: all bytes of the files.

        Raises:
            DamagedSessionError: They differ.
        """
        if columns is not None:
            columns = one_or_more("columns", columns, "the name of a column")
        self._rows.check(columns)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of a set, in order; none if the session is one file."""
        return self._rows.parts if isinstance(self._rows, PartSet) else ()

    @property
    def is_finite(self) -> bool:
        """Return whether, as recorded, no number of the rows is NaN, infinite or very large."""
        return self.has_checksums and self.sealed and self.metadata.get("is_finite") is True

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of this session that still exist, by their absolute paths."""
        if self.parts:
            files = [part.file for part in self.parts]
        else:
            is_there = self.sealed or self.place.exists()
            files = [self.place if is_there else sealed_path(self.place)]
        return tuple(file for file in files if file.exists())

    @property
    def first_frame(self) -> int:
        """Number of the first frame: 0, unless earlier parts are missing."""
        return self.parts[0].first_frame if self.parts else first_frame(self.metadata)

    @property
    def journal(self) -> Journal:
        if isinstance(self._rows, PartSet):
            raise DgrecError(f"{self.path}: is a recording in parts, not a journal")
        if self._rows.journal is None:
            raise DgrecError(f"{self.path}: is a sealed session, not a journal")
        return self._rows.journal

    @property
    def metadata(self) -> Metadata:
        """Everything known about the recording (docs/format.md lists the keys)."""
        return self._rows.metadata

    @property
    def id(self) -> str:
        return str(self.metadata.get("session_id", ""))

    @property
    def totals(self) -> dict[str, int | None]:
        """The sums over all rows: ``frames``, ``detections``, and the source's frames that were
        ``skipped`` and ``dropped`` (``dropped_camera``, ``dropped_queue``, ``dropped_writer``).

        What a live source lost while the model started is separate (``dropped_at_start``, ...), as
        everywhere except in the metadata's ``totals``. None: unknown.
        """
        return self._rows.totals

    @property
    def ended_at(self) -> str | None:
        """The end of the recording (ISO 8601, UTC); None while it continues.

        If its recorder was killed, the time of its last result, or of a later alert.
        """
        return self._rows.ended_at

    @property
    def damage(self) -> list[str]:
        """A line for each thing that could not be read."""
        return list(self._rows.damage)

    @property
    def schema(self) -> pa.Schema:
        return self._rows.schema

    @property
    def is_plain(self) -> bool:
        """Return whether any Parquet reader can read dgrec's columns (for a set: see `parts`)."""
        return isinstance(self._rows, RecordedFile) and self._rows.is_plain

    @property
    def odd_metadata(self) -> list[str]:
        """Keys of the metadata whose values are invalid, and left out."""
        return self._rows.odd_metadata if isinstance(self._rows, RecordedFile) else []

    def column_bytes(self) -> list[tuple[str, pa.DataType, int]]:
        """Return name, type and compressed size of every leaf of sealed columns."""
        return self._rows.column_bytes()

    def __len__(self) -> int:
        return len(self._rows)

    def __fspath__(self) -> str:
        """Return the session's absolute path: a session can be given wherever its path can."""
        return str(self.place)

    def __repr__(self) -> str:
        return f"<dgrec session {str(self.path)!r}: {counted(len(self), 'frame')}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows (IPython's protocol): a table, and the player."""
        card = session_card(self)
        try:
            player = import_module("dgrec")._player(self)
        except Exception:  # PySDK raises anything for odd results; the table is enough
            return card
        return card + (player or "")

    # --- rows ---

    def batches(
        self, columns: str | list[str] | None = None, start: int = 0, end: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows from position ``start`` to before ``end`` as Arrow record batches.

        Known columns have the types of `dgrec.format.schema.SCHEMA`. Named columns that the file
        lacks are null; without names, the columns are those of `schema`.

        A journal that is being written always shows the rows that it had when it was opened.

        Raises:
            SessionError: There is no such column, or the rows cannot be read.
        """
        if columns is not None:
            columns = one_or_more("columns", columns, "the name of a column")
        for name in columns or ():
            check_text("columns", name)
            # A field of a nested column may be named as in Parquet.
            root = name.partition(".")[0]
            if root not in SCHEMA.names and not {name, root} & {*self.schema.names}:
                raise SessionError(f"{self.path}: has no column {name!r}")
        yield from self._rows.batches(columns, start, end)

    def first_at_least(self, name: str, value: int) -> int:
        """Return a position before which a column of whole numbers or stamps is below ``value``.

        It is the beginning of a row group, taken from the footer; 0 if the footer does not tell.
        Stamps are in microseconds since 1970, and nulls are below any value.
        """
        return self._rows.first_at_least(name, value)

    def stamp_bounds(self) -> list[tuple[int, int]] | None:
        """Return the earliest and the latest time of capture, and those of results.

        In microseconds since 1970. None if a row lacks one, or that would take reading the rows.
        """
        return self._rows.stamp_bounds()

    def batches_of(self, part: Part, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows of one of `parts`."""
        if isinstance(self._rows, PartSet):
            yield from self._rows.batches_of(part, columns)

    def only(self, parts: Sequence[Part]) -> Session:
        """Return a session of some of `parts` that follow each other."""
        other = copy.copy(self)
        other._connection = other._notices = None
        if isinstance(self._rows, PartSet):
            other._rows = self._rows.only(parts)
        return other

    @property
    def frames(self) -> pa.Table:
        """All rows without their detections, as an Arrow table in memory."""
        names = [name for name in self.schema.names if name != "detections"]
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.Table.from_batches(list(self.batches(names)), schema=schema)

    @property
    def detections(self) -> pa.Table:
        """One row per detection: ``frame``, and the fields of the detection."""
        names = ["frame", "detections"]
        schema = pa.schema([SCHEMA.field(name) for name in names])
        none = pa.RecordBatch.from_pylist([], schema=schema)
        return pa.concat_tables(map(flat_detections, list(self.batches(names)) or [none]))

    def __iter__(self) -> Iterator[RecordedResult]:
        metadata = self.metadata
        for batch in self.batches():
            for row in each_row(batch):
                yield self.restored(row, metadata)

    @overload
    def __getitem__(self, index: int) -> RecordedResult: ...
    @overload
    def __getitem__(self, index: slice) -> list[RecordedResult]: ...
    def __getitem__(self, index: int | slice) -> RecordedResult | list[RecordedResult]:
        """Return a frame (`result`), or a list of frames for a slice."""
        if isinstance(index, slice):
            return [self.result(number) for number in range(*index.indices(len(self)))]
        return self.result(index)

    def result(self, index: int) -> RecordedResult:
        """Return frame ``index`` (negative: from the end).

        The index counts the existing frames, from 0. In a later part alone, or in a set whose
        oldest parts were removed, the frame's own number (`RecordedResult.frame`) is larger.

        Raises:
            IndexError: There is no such frame.
        """
        size = len(self)
        index = operator.index(index)
        position = index + size if index < 0 else index
        if not 0 <= position < size:
            raise IndexError(f"frame {index} of a session of {counted(size, 'frame')}")
        return self.restored(self.row(position))

    def restored(self, row: Mapping[str, Any], metadata: Metadata | None = None) -> RecordedResult:
        """Return the result of one of this session's rows.

        Args:
            metadata: `metadata`, which is slow to get for every row.

        Raises:
            DamagedSessionError: The row does not hold what dgrec writes.
        """
        try:
            return RecordedResult(
                row, self.metadata if metadata is None else metadata, self.notices_until
            )
        except DecodeError as error:
            raise damaged_frame(self.path, row, error) from None

    def notices_until(self, completed_ns: int) -> dict[str, Notice]:
        """Return the last message of each notifier up to a time, which frames show for a while."""
        if self._notices is None:
            self._notices = Notices(self.batches(["completed_at", "attributes"]))
        return self._notices.until(completed_ns)

    def row(self, position: int) -> dict[str, Any]:
        """Return the columns of one frame, by its position from 0."""
        return self._rows.row(position)

    # --- pictures ---

    def pixels(
        self, video: str | os.PathLike[str] | None = None, *, annotated: bool = False
    ) -> Pixels:
        """Return the pictures of this session's frames; close them, or use them in a `with` block.

        They are read from the video that was recorded with the session, or from the file that it
        was recorded from, if that has not changed.

        Args:
            video: The file to read them from instead.
            annotated: Read the video that was recorded with the overlay.

        Raises:
            VideoError: There are no pictures, or not those of this session.

        Example:
            >>> import dgrec
            >>> with dgrec.open("session.parquet") as session:
            ...     with session.pixels("faces.mp4") as pixels:
            ...         result = next(pixels.results(session))
            >>> result.image.shape, result.image_overlay.shape
            ((360, 640, 3), (360, 640, 3))
        """
        from dgrec.footage import Pixels, find_footage

        footage = optional_path("video", video, VideoError)
        return Pixels(find_footage(self, footage, annotated=annotated))

    def export(self, output: str | Path, format: str | None = None, **options: Any) -> ExportReport:
        """Export this session in a format of other tools.

        The arguments are those of `dgrec.export`.

        Example:
            >>> import dgrec
            >>> with dgrec.open("session.parquet") as session:
            ...     session.export("faces.json", "coco").detections
            426
        """
        # Through the package `dgrec`: exports are in a layer above this one.
        report: ExportReport = import_module("dgrec").export(self, output, format, **options)
        return report

    # --- SQL ---

    def sql(
        self, query: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> duckdb.DuckDBPyRelation:
        """Run SQL over the views ``frames``, ``detections`` and ``sessions``, and the library.

        A journal that is being written shows the rows that it had when it was opened.

        Args:
            parameters: Values for ``$name``, by name, or for ``?``, in their order.

        Returns a DuckDB relation: ``.fetchall()``, ``.to_arrow_table()``. Threads need a session
        each, from ``dgrec.open``: DuckDB answers one at a time.

        Raises:
            QueryError: DuckDB refuses the query, or another thread is running one of this session.
            SessionError: The session is closed.
        """
        import duckdb

        from dgrec.sql import check_files, views

        if self._closed:
            raise SessionError(f"{self.path}: the session is closed")
        if not isinstance(parameters, Iterable | None) or isinstance(parameters, str):
            raise QueryError(
                f"parameters: {value_text(parameters)} is not a list of values, nor a dictionary"
            )
        try:
            if self._connection is None:
                self._connection = views.connect([self])
            check_files(self._connection, [self], query, parameters)
            found = self._connection.sql(query, params=parameters)
            if found is None and not self._connection.extract_statements(query):
                raise QueryError("no statement in the SQL text")
            return found
        except duckdb.Error as error:
            raise views.query_error(error) from None

    def sql_rows(
        self, query: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Run SQL as `sql` does and return all rows of its result.

        Raises:
            QueryError: DuckDB refuses the query, or fails at it.
            SessionError: The session is closed, or its rows cannot be read.
        """
        import duckdb

        from dgrec.sql import views

        try:
            rows: list[tuple[Any, ...]] = self.sql(query, parameters).fetchall()
        except (duckdb.Error, QueryError) as error:
            if views.is_about_files(error):
                self.check_rows()  # whose error names the file, as DuckDB's may not
            raise views.query_error(error) from None
        return rows

    def check_rows(self) -> None:
        """Read every row, as iteration does and as SQL does.

        Raises:
            SessionError: Part of it cannot be read.
        """
        import duckdb

        from dgrec.sql import views

        for _ in self.batches():
            pass
        try:
            with views.connect([self], with_library=False) as connection:
                connection.execute("SELECT max(hash(frames)) FROM frames").fetchall()
        except duckdb.Error as error:
            if views.is_about_files(error):
                if not self.parts and not self.place.exists():
                    raise SessionError(f"{self.path}: no longer exists") from None
                reason = views.query_error(error)
                raise DamagedSessionError(f"{self.path}: damaged: {reason}") from None

    # --- end ---

    @contextlib.contextmanager
    def for_another_thread(self) -> Iterator[Session]:
        """Give a session that another thread may read: a sealed file is for one at a time.

        It may be this one: journals and parts are opened for each pass.
        """
        if self.parts or not self.sealed:
            yield self
        else:
            with self.opened_again() as session:
                yield session

    def opened_again(self) -> Session:
        """Return another session of the same file, whatever the program's folder is now."""
        other = copy.copy(self)
        other._connection = other._notices = None
        other._closed = False
        other._rows = _rows_of(self.path, self.path, place=self.place)
        return other

    def __copy__(self) -> Session:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __reduce__(self) -> NoReturn:
        """Raise an error that says what to do: a session's Arrow and DuckDB cannot be pickled."""
        raise TypeError(
            f"{self.path}: a session cannot be pickled or copied deeply; open it again by its path"
        )

    def close(self) -> None:
        self._closed = True
        if self._connection is not None:
            import duckdb

            # Where another thread is at a query, it ends with that.
            with contextlib.suppress(duckdb.Error):
                self._connection.close()
            self._connection = None
        self._rows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _rows_of(
    path: Path, given: str | os.PathLike[str], *, place: Path, check: bool = True
) -> RecordedFile | PartSet:
    try:
        return RecordedFile(path, place=place, check=check)
    except FileNotFoundError:
        if path.suffix == JOURNAL_SUFFIX or not path.name:  # cannot name a set
            raise NotASessionError(f"{given}: cannot be read: No such file") from None
    try:  # not above: its errors would be shown as those of the file
        return PartSet(path)
    except OSError as error:  # with a suffix, the name may be too long
        raise NotASessionError(f"{given}: cannot be read: {error.strerror}") from None


def open_session(path: str | os.PathLike[str]) -> Session:
    """Open a recorded session: a sealed file, a journal, or all parts of a recording.

    Raises:
        SessionError: The file is missing, not a session, damaged, or of a newer format.

    Example:
        >>> import dgrec
        >>> with dgrec.open("session.parquet") as session:
        ...     print(len(session), "frames of", session.metadata["source"]["given"])
        420 frames of sample
    """
    return Session(path)
