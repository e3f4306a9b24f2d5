"""Writing the journal: the form of a session while it is being recorded.

It is an Arrow IPC stream that any Arrow reader accepts; whole record batches are appended with one
write each. A Parquet file that loses its writer has no footer and cannot be read at all; a journal
keeps everything that was flushed.

Each message has a checksum of its own (`dgrec.format.messages`), which shows whether it is whole.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from dgrec.errors import OutputError, StorageError
from dgrec.files import NewFile, output_error, sync_folder, write_error
from dgrec.format import metadata as metadata_module
from dgrec.format.arrays import compact
from dgrec.format.encode import Row, build_batch
from dgrec.format.json_values import Losses
from dgrec.format.masks import MaskMode
from dgrec.format.messages import CRC_KEY, CRC_ZEROS, END_OF_STREAM, set_checksums
from dgrec.format.metadata import Metadata
from dgrec.format.schema import METADATA_KEY, SCHEMA

Durability = Literal["never", "flush", "frame"]

_NOTE_KEY = "dgrec.batch"
_DETECTIONS = SCHEMA.get_field_index("detections")


class JournalWriter:
    """Appends rows to a new journal.

    When `write` returns, its rows survive a crash of this process (and of the machine, once they
    are synced: ``durability``).

    Args:
        first_frame: Number of the first row; a later part of a recording continues the numbering.
        losses: Gets the values of rows that cannot be kept.

    Raises:
        OutputError: The file exists, or cannot be created.
        StorageError: It can no longer be written, or is gone. After a failed write it is cut back
            to its last whole batch.
    """

    def __init__(
        self,
        path: Path,
        metadata: Metadata,
        *,
        masks: MaskMode = "exact",
        durability: Durability = "flush",
        first_frame: int = 0,
        losses: Losses | None = None,
    ) -> None:
        self.path = path
        self.first_frame = first_frame
        self.frames = 0
        self.detections = 0
        self.flushes = 0
        self.bytes_written = 0
        self._masks = masks
        self._losses = losses
        self.durability = durability
        self._sync = durability != "never"
        self._sequence = 0
        # In every batch, so that a reader that has lost the head does not take the frames of
        # earlier parts for lost.
        start = {"start": first_frame} if first_frame else {}
        self._constant = compact({"id": stream_id(metadata), **start})[1:]
        self._schema = SCHEMA.with_metadata(
            {METADATA_KEY: metadata_module.dumps(metadata), CRC_KEY: CRC_ZEROS}
        )
        self._buffer = io.BytesIO()
        # Arrow writes a hundred small buffers: gathered, they take one call.
        self._gather = pa.BufferedOutputStream(pa.PythonFile(self._buffer, mode="w"), 1 << 20)
        self._stream = pa.ipc.new_stream(self._gather, self._schema)
        # Arrow writes the schema with the first batch, even an empty one.
        head = self._encode(build_batch([], 0), {})
        with _making(path), NewFile(path) as new:
            self._file = new.descriptor
            self._put(head)
            self._file = new.release()  # it appears with its head, and locked
        self._stat = os.fstat(self._file)
        self._sequence = 1
        try:
            if self._sync:
                sync_folder(path.parent)
        except OSError as error:
            with contextlib.suppress(OutputError):
                self.close()
            with contextlib.suppress(OSError):
                path.unlink()  # it has no rows
            raise write_error(path, error) from None

    def write(self, rows: Sequence[Row], **note: Any) -> pa.RecordBatch:
        """Append ``rows`` as one batch, and return it.

        ``note`` goes into the batch's own metadata as JSON.
        """
        batch = build_batch(rows, self.first_frame + self.frames, self._masks, self._losses)
        self._put(self._encode(batch, note))
        # Counted before anything else can fail: these rows must not be written twice.
        self._sequence += 1
        self.frames += batch.num_rows
        self.detections += len(batch.column(_DETECTIONS).values)
        self.flushes += 1
        self._check_place()
        return batch

    def end(self, closing: Metadata) -> None:
        """Append the closing metadata and the end of the stream."""
        self._put(self._encode(build_batch([], 0), {"end": closing}) + END_OF_STREAM)
        self._sequence += 1
        self._check_place()

    def close(self) -> None:
        """Close the file. Without `end`, it looks like the journal of a killed recorder."""
        if self._file < 0:
            return
        file, self._file = self._file, -1
        try:
            os.close(file)
        except OSError as error:  # a network file system may report a failed write only now
            raise write_error(self.path, error) from error

    def _encode(self, batch: pa.RecordBatch, note: dict[str, Any]) -> bytearray:
        """Return ``batch`` as a message; the first time, after the schema's message."""
        first = self.first_frame + self.frames
        text = f'{{"seq":{self._sequence},"first":{first},"rows":{batch.num_rows},{self._constant}'
        if note:
            text = f"{text[:-1]},{metadata_module.dumps(note)[1:]}"
        self._stream.write_batch(batch, custom_metadata={_NOTE_KEY: text, CRC_KEY: CRC_ZEROS})
        self._gather.flush()
        size = self._buffer.tell()
        # Rewound before anything can fail: these bytes must not come again with the next batch.
        self._buffer.seek(0)
        # A copy: a traceback that is kept would hold the buffer, which then could not grow.
        with self._buffer.getbuffer() as buffer:
            data = bytearray(buffer[:size])
        set_checksums(data)
        return data

    def _put(self, data: bytes | bytearray) -> None:
        """Append ``data``, all of it or nothing."""
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            if self._sync:
                os.fsync(self._file)
        except OSError as error:
            # What is written after half a batch would be lost.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.bytes_written)
                os.lseek(self._file, self.bytes_written, os.SEEK_SET)
            raise write_error(self.path, error) from error
        self.bytes_written += len(data)

    def _check_place(self) -> None:
        """Raise `StorageError` if the file was removed or moved, which writing does not notice."""
        with contextlib.suppress(OSError):
            if os.path.samestat(self.path.stat(), self._stat):
                return
        moved = self.moved_to()
        where = f"it is {moved} now" if moved else "removed, moved or unmounted"
        raise StorageError(f"{self.path}: is not there any more: {where}")

    def moved_to(self) -> Path | None:
        """Return where the file was moved to, as far as the system knows."""
        with contextlib.suppress(OSError):
            now = Path(f"/proc/self/fd/{self._file}").readlink()
            if os.path.samestat(now.stat(), os.fstat(self._file)):
                return now
        return None


@contextlib.contextmanager
def _making(path: Path) -> Iterator[None]:
    """Turn errors of creating a journal into `OutputError`; an existing one is never replaced."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from None
    except OutputError as error:
        if os.path.lexists(path) and not isinstance(error, StorageError):
            raise OutputError(f"{path}: exists already; choose another name") from None
        raise


def stream_id(metadata: Metadata) -> str:
    """Return the id that distinguishes the batches of a session from those of another.

    After a crash, a file system may show old blocks of a deleted file in the place of new ones:
    batches of another journal, whole and with valid checksums.
    """
    return str(metadata.get("session_id", ""))[-12:]
