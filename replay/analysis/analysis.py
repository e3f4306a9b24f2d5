"""Runs analyzers over the results of a session, and writes them as a new session."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dgrec.analyzers import (
    added_by,
    class_of,
    describe,
    failure_of,
    recorded_time,
    remove_added,
)
from dgrec.errors import DgrecError, OutputError, VideoError
from dgrec.files import check_new_file, check_session_name
from dgrec.footage import Pixels, files_of, find_footage, refuse_recorded
from dgrec.format import (
    SCHEMA,
    MaskMode,
    Metadata,
    Row,
    build_batch,
    json_values,
    result_values,
    uuid7,
    write_sealed,
)
from dgrec.paths import numbered_files, part_path
from dgrec.replay.clip import moved_source
from dgrec.session import Runs, Session, parts_of, rows_of

#: Rows that are converted to Python values at a time.
_ROWS_IN_PYTHON = 256
#: The columns that analyzers change.
_CHANGED = ("detections", "attributes", "restore")
#: Metadata that is not copied: it describes a whole recording, or is counted again.
_NOT_COPIED = frozenset({"parts", "is_finite"})


@dataclass
class _Target:
    """One file to write, and where its rows and its metadata come from."""

    path: Path
    metadata: Metadata
    batches: Iterator[pa.RecordBatch]


def write_analysis(
    session: Session,
    make: Callable[[], Sequence[Any]],
    output: Path,
    *,
    video: Path | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Run analyzers over a session's frames, in order, and write a new session.

    The rest of each row stays as it is. What earlier analyzers of the same classes had added is
    replaced. A recording in parts gives a set of parts. Where the recorder began again, so do the
    analyzers.

    Args:
        session: The session, in any form.
        make: Returns new analyzers, in the order in which they run; called for each run.
        output: The new session, which ends in ``.parquet``.
        video: Where the pixels are, if an analyzer needs them and dgrec does not find them itself.
        overwrite: Whether existing files may be replaced.

    Returns:
        The files.

    Raises:
        OutputError: A file exists, or cannot be written.
        VideoError: An analyzer needs pixels, and there are none.
        DgrecError: An analyzer failed; the message names the frame.
    """
    check_analysis_output(session, output, overwrite=overwrite)
    set_id, written = str(uuid7()), []
    with ExitStack() as stack:
        runner = stack.enter_context(_Runner(session, make, video))
        for target in _targets(session, output, runner, set_id):
            schema = _schema(target)
            write_sealed(
                target.path,
                schema,
                (runner.analyzed(batch, schema) for batch in target.batches),
                lambda rows, old=target.metadata: {  # type: ignore[misc]
                    **old,
                    "ended_at": old.get("ended_at") or rows.ended_at,
                },
                replace=overwrite,
            )
            written.append(target.path)
    return written


def check_analysis_output(session: Session, output: Path, *, overwrite: bool = False) -> None:
    """Raise `OutputError` if nothing can be written to ``output``, before any work is done."""
    check_session_name(output)
    recorded = files_of(session)
    paths = [part_path(output, part.number) for part in session.parts] or [output]
    for path in (output, *paths):
        refuse_recorded(path, recorded)
        check_new_file(path, overwrite=overwrite and path in paths)
    others = {path for _, path in numbered_files(output)} - {*paths}
    if (parts_of(output) and not session.parts) or others:
        raise OutputError(f"{output}: a recording in parts has this name; choose another")


def _targets(session: Session, output: Path, runner: _Runner, set_id: str) -> Iterator[_Target]:
    if not session.parts:
        metadata = _metadata(session, session.metadata, output, runner)
        if session.damage:
            metadata["damage"] = list(session.damage)
        yield _Target(output, metadata, session.batches())
    for part in session.parts:
        path = part_path(output, part.number)
        metadata = _metadata(session, part.metadata, path, runner)
        metadata["part"] = {**metadata.get("part", {}), "set_id": set_id}
        if part.damage:
            metadata["damage"] = list(part.damage)
        yield _Target(path, metadata, session.batches_of(part))


def _metadata(session: Session, old: Metadata, path: Path, runner: _Runner) -> Metadata:
    kept = [e for e in old.get("analyzers", []) if e.get("class") not in runner.replaced]
    metadata = {key: value for key, value in old.items() if key not in _NOT_COPIED}
    metadata |= {
        "session_id": str(uuid7()),
        "name": path.stem,
        "end_reason": old.get("end_reason") or "recovered",
        "analyzers": [*kept, *runner.entries],
        "analyzed": {"session_id": old.get("session_id"), "name": old.get("name")},
    }
    if "source" in old:
        metadata["source"] = moved_source(old["source"], session.place, path)
    return metadata


def _schema(target: _Target) -> pa.Schema:
    """Return the old file's columns, and those of `_CHANGED` that another tool left out."""
    try:
        first = next(target.batches)
    except StopIteration:
        first = build_batch([], 0)
    rest = target.batches
    target.batches = (batch for part in ([first], rest) for batch in part)
    lacking = [SCHEMA.field(name) for name in _CHANGED if name not in first.schema.names]
    return pa.schema([*first.schema, *lacking])


class _Runner:
    """Runs analyzers over rows, which are given in order."""

    def __init__(
        self, session: Session, make: Callable[[], Sequence[Any]], video: Path | None
    ) -> None:
        self._make, self._analyzers = make, list(make())
        self.entries = describe(self._analyzers)
        #: Classes whose earlier analyzers are replaced: what they add is known.
        self.replaced = {e["class"] for e in self.entries if any(added_by(e["class"]))}
        self._session, self._metadata = session, session.metadata
        self._runs = Runs(self._metadata.get("events", []))
        #: The run of the last row.
        self._run: int | None = None
        self._video = video
        self._pixels: Pixels | None = None
        self._labels: dict[Any, Any] | None = None
        is_bitmap = self._metadata.get("options", {}).get("masks") == "bitmap"
        self._masks: MaskMode = "bitmap" if is_bitmap else "exact"

    def __enter__(self) -> _Runner:
        return self

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        if self._pixels is not None:
            self._pixels.close()
        self._finalize(raises=kind is None)

    def _finalize(self, *, raises: bool) -> None:
        analyzers, self._analyzers = self._analyzers, []
        for each in analyzers:
            try:
                each.finalize()
            except Exception as problem:
                if raises:
                    raise failure_of(each, problem, "at its end") from problem

    def analyzed(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        """Return a batch with what the analyzers add to its rows."""
        made: list[pa.RecordBatch] = []
        for start in range(0, batch.num_rows, _ROWS_IN_PYTHON):
            rows = rows_of(batch.slice(start, _ROWS_IN_PYTHON))
            made.append(build_batch([self._row(row) for row in rows], 0, self._masks))
        table = pa.Table.from_batches(made or [build_batch([], 0)]).combine_chunks()
        new = {name: _one(table.column(name)) for name in _CHANGED}
        arrays = [new[name] if name in new else batch.column(name) for name in schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _row(self, row: dict[str, Any]) -> Row:
        run = self._runs.number(row["source_frame"])
        if self._run is not None and run != self._run:
            self._finalize(raises=True)
            self._analyzers = list(self._make())
        self._run = run
        frame = self._session.restored(row, self._metadata)
        remove_added(frame.results, frame.attributes, self.replaced)
        if self._labels is None:
            self._labels = frame.label_dictionary
        result = frame.to_pysdk(None, labels=self._labels)
        kind: Any = type(result)
        result.__class__ = _with_recorded_pixels(kind)
        with recorded_time(frame.completed_ns):
            for each in self._analyzers:
                result._dgrec_pixels = functools.partial(self._pixels_for, each, row)
                try:
                    each.analyze(result)
                except DgrecError:
                    raise
                except Exception as error:
                    raise failure_of(each, error, f"at frame {frame.frame}") from error
        attributes = {**frame.attributes, **result_values.added_values(result)}
        return Row(
            source_frame=0,
            media_time_s=None,
            captured_ns=0,
            completed_ns=0,
            read_ns=0,
            recorder_ns=0,
            width=0,
            height=0,
            results=result._inference_results,
            timing=frame.timing,
            attributes=json_values.dumps(attributes) if attributes else None,
            info=frame.info,
            conversion=frame.sampled_conversion,
            described=frame.described,
        )

    def _pixels_for(self, analyzer: Any, row: dict[str, Any]) -> np.ndarray[Any, Any]:
        """Return a frame's pixels, as an analyzer asks for them."""
        width, height = row["width"] or 0, row["height"] or 0
        if class_of(analyzer) == "degirum_tools.ZoneCounter":  # which looks at their size only
            return np.broadcast_to(np.uint8(0), (height, width, 3))
        name = type(analyzer).__name__
        if self._pixels is None:
            footage = find_footage(self._session, self._video)
            if footage.path is None and not footage.parts:
                raise VideoError(
                    f"{self._session.path}: {name} needs the pixels, and there are none: "
                    "--video FILE says where they are"
                )
            self._pixels = Pixels(footage)
        image = self._pixels.frame(row)
        if image is None:
            why = "; ".join(self._pixels.notes())
            raise VideoError(f"frame {row['frame']}: {name} needs its pixels: {why}")
        return image


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


@functools.cache
def _with_recorded_pixels(result_class: Any) -> Any:
    """Return a result class whose image is read when an analyzer asks for it."""

    class Recorded(result_class):  # type: ignore[misc]
        @property
        def _input_image(self) -> Any:
            return self._dgrec_pixels()

    with contextlib.suppress(AttributeError, TypeError):
        Recorded.__name__ = result_class.__name__
    return Recorded
