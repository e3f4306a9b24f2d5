"""Puts detections that come in any order into frames, without holding all of them in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

import duckdb
import pyarrow as pa

from dgrec.errors import DgrecError, StorageError, first_line
from dgrec.files import TemporaryFolder
from dgrec.imports.text import InvalidError

#: Detections of a frame: lists in a row have a limit.
MOST_DETECTIONS: Final = 100_000

_AT_ONCE: Final = 8192
_MEMORY: Final = "128MB"
_encoded: Final = json.JSONEncoder(check_circular=False).encode
_DETECTIONS: Final = pa.schema(
    [("seq", pa.int64()), ("frame", pa.int64()), ("image", pa.string()), ("data", pa.string())]
)
_IMAGES: Final = pa.schema(
    [("seq", pa.int64()), ("image", pa.string()), ("frame", pa.int64()), ("data", pa.string())]
)

#: A frame's number, what is known of its picture, and its detections with their numbers in the
#: file.
Gathered = tuple[int, Mapping[str, Any], list[tuple[int, dict[str, Any]]]]


def too_many(frame: int) -> InvalidError:
    """Return the error for a frame with more detections than a row can hold."""
    return InvalidError(f"frame {frame:,}", f"has more than {MOST_DETECTIONS:,} detections")


class Gathering:
    """Detections and pictures on disk, sorted by DuckDB once all have been added.

    A detection belongs to a frame by its number, or to a picture by the picture's name, which may
    come later in the file.
    """

    def __init__(self) -> None:
        try:
            self._folder = TemporaryFolder("dgrec-import")
        except OSError as error:
            raise StorageError(f"{error}; TMPDIR names a folder to sort in") from None
        try:
            self._connection = duckdb.connect(
                str(self._folder.path / "gathered.duckdb"),
                config={
                    "memory_limit": _MEMORY,
                    "temp_directory": str(self._folder.path),
                    "threads": 1,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                },
            )
        except duckdb.Error as error:
            self._folder.cleanup()
            raise self._failed(error) from None
        self._run("SET enable_progress_bar = false")
        self._run("CREATE TABLE detections (seq BIGINT, frame BIGINT, image VARCHAR, data VARCHAR)")
        self._run("CREATE TABLE images (seq BIGINT, image VARCHAR, frame BIGINT, data VARCHAR)")
        self._waiting: dict[str, list[tuple[Any, ...]]] = {"detections": [], "images": []}
        self._counts = {"detections": 0, "images": 0}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._folder.cleanup()

    @property
    def detections(self) -> int:
        return self._counts["detections"]

    @property
    def images(self) -> int:
        return self._counts["images"]

    def add(
        self, detection: Mapping[str, Any], *, frame: int | None = None, image: str | None = None
    ) -> None:
        """Add a detection of a frame, of a picture, or of a picture that is a known frame."""
        self._add("detections", (frame, image, _encoded(detection)))

    def add_image(self, image: str, frame: int, facts: Mapping[str, Any]) -> None:
        """Add a picture, which has a frame's number."""
        self._add("images", (image, frame, _encoded(facts)))

    def repeated(self, column: str) -> tuple[int, Any] | None:
        """Return number and value of the first picture that repeats an earlier ``column``."""
        self._flush()
        found = self._run(
            f"SELECT min(seq), {column} FROM (SELECT seq, {column}, row_number() OVER (PARTITION "
            f"BY {column} ORDER BY seq) AS nth FROM images) WHERE nth > 1 GROUP BY {column} "
            "ORDER BY 1 LIMIT 1"
        ).fetchone()
        return None if found is None else (int(found[0]), found[1])

    def without_image(self) -> tuple[int, str] | None:
        """Return the first detection whose picture is missing, and the picture's name."""
        self._flush()
        found = self._run(
            "SELECT seq, image FROM detections WHERE image NOT IN (SELECT image FROM images) "
            "ORDER BY seq LIMIT 1"
        ).fetchone()
        return None if found is None else (int(found[0]), str(found[1]))

    def mixed(self) -> tuple[int, int, str] | None:
        """Return the first detection of a picture whose frame has another picture's, too.

        It is the detection's number, the frame, and the name of the other picture.
        """
        self._flush()
        found = self._run(
            "SELECT seq, frame, other FROM (SELECT seq, frame, image, first_value(image) OVER "
            "(PARTITION BY frame ORDER BY seq) AS other FROM detections WHERE image IS NOT NULL) "
            "WHERE image <> other ORDER BY seq LIMIT 1"
        ).fetchone()
        return None if found is None else (int(found[0]), int(found[1]), str(found[2]))

    def frames(self) -> Iterator[Gathered]:
        """Yield the frames in order, with their detections in the order of the file.

        Where pictures were added, these are the frames.
        """
        self._flush()
        query = "SELECT frame, NULL, seq, data FROM detections ORDER BY frame, seq"
        if self.images:
            query = (
                "SELECT i.frame, i.data, d.seq, d.data FROM images i LEFT JOIN detections d "
                "USING (image) ORDER BY i.frame, d.seq"
            )
        try:
            reader = self._connection.sql(query).to_arrow_reader(_AT_ONCE)
        except duckdb.Error as error:
            raise self._failed(error) from None
        frame: int | None = None
        facts: Mapping[str, Any] = {}
        found: list[tuple[int, dict[str, Any]]] = []
        while (batch := self._next(reader)) is not None:
            columns = (column.to_pylist() for column in batch.columns)
            for number, picture, seq, data in zip(*columns, strict=True):
                if number != frame:
                    if frame is not None:
                        yield frame, facts, found
                    frame, found = number, []
                    facts = json.loads(picture) if picture else {}
                if data is not None:
                    found.append((seq, json.loads(data)))
                    if len(found) > MOST_DETECTIONS:
                        raise too_many(number)
        if frame is not None:
            yield frame, facts, found

    def _add(self, table: str, row: tuple[Any, ...]) -> None:
        waiting = self._waiting[table]
        waiting.append((self._counts[table], *row))
        self._counts[table] += 1
        if len(waiting) >= _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        for table, schema in (("detections", _DETECTIONS), ("images", _IMAGES)):
            rows = self._waiting[table]
            if rows:
                columns = zip(*rows, strict=True)
                arrays = [pa.array(c, t) for c, t in zip(columns, schema.types, strict=True)]
                self._connection.register("waiting", pa.table(arrays, schema=schema))
                self._run(f"INSERT INTO {table} SELECT * FROM waiting")
                self._connection.unregister("waiting")
                rows.clear()

    def _run(self, query: str) -> duckdb.DuckDBPyConnection:
        try:
            return self._connection.execute(query)
        except duckdb.Error as error:
            raise self._failed(error) from None

    def _next(self, reader: Any) -> pa.RecordBatch | None:
        try:
            return reader.read_next_batch()
        except StopIteration:
            return None
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> DgrecError:
        return StorageError(f"{self._folder.path}: cannot sort there: {first_line(error)}")
