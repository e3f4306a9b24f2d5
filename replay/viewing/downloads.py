"""Downloads of a marked part, made by the commands that the page shows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import unicodedata
import zipfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dgrec.files import TemporaryFolder, output_error, placed
from dgrec.processes import module_command
from dgrec.replay.exports import format_of
from dgrec.replay.viewing.files import folder_size
from dgrec.replay.viewing.parameters import RequestError

#: The most bytes that one download may take, and the least that have to stay free.
_MOST_BYTES: Final = 4_000_000_000
_LEAST_FREE: Final = 1_000_000_000
#: Downloads that are kept; a new one replaces the oldest.
_MOST_KEPT: Final = 3
#: Seconds between two looks at these bytes.
_LOOK_S: Final = 1.0
#: How long a command may take to end, in seconds, once nobody waits for it.
_END_S: Final = 1.0
_PROGRAM: Final = "dgrec.replay.viewing.download_program"
#: In bytes; file systems take 255, with what is added to the name.
_LONGEST_NAME: Final = 120


def command(
    path: Path, kind: str, first: int, last: int, form: str, stem: str
) -> tuple[list[str], str]:
    """Return the arguments of `dgrec` that make a download of rows, and the name of the output.

    Args:
        kind: ``clip``, ``export`` or ``png``.
        first: Position of the first row.
        last: Position of the last.
        form: The format of an export.
        stem: The beginning of the output's name.

    Raises:
        RequestError: There is no such kind.
        ConfigError: There is no such format.
    """
    stretch = [str(placed(path)), "--start", str(first), "--end", str(last + 1)]
    name = f"{_plain(stem)}-{first}-{last}"
    if kind == "clip":
        return ["clip", *stretch, "-o", f"{name}.parquet"], name
    if kind == "export":
        found = format_of(form, Path(name))
        suffix = f"-{form}" if found.is_folder else (found.member_suffix or found.suffixes[0])
        return ["export", *stretch, "--format", form, "-o", f"{name}{suffix}"], f"{name}-{form}"
    if kind == "png":
        side = next(side for side, least in ((4, 16), (2, 4), (1, 1)) if last - first + 1 >= least)
        sheet = f"{side}x{side}"
        return ["replay", *stretch, "--contact-sheet", sheet, "-o", f"{name}.png"], name
    raise RequestError(f"kind: {kind[:40]!r} is none of clip, export and png")


def _plain(text: str) -> str:
    """Return a name of letters, numbers, and signs that mean nothing to a shell."""
    known = (c if c in "_.@+=-" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    name = "_".join("".join(known).split()).strip("._-")
    return name.encode()[:_LONGEST_NAME].decode(errors="ignore") or "session"


@dataclass(frozen=True)
class _Made:
    folder: Path
    file: Path


class Downloads:
    """Makes one thing at a time, by a process of its own; the last few can be fetched."""

    def __init__(self) -> None:
        self._place: TemporaryFolder | None = None
        self._made: dict[str, _Made] = {}
        self._is_busy = False

    async def make(self, arguments: Sequence[str], name: str) -> dict[str, Any]:
        """Run a command of `dgrec`; it ends if this is cancelled.

        Returns ``id``, ``name`` and ``bytes`` of the file, a ZIP where there are several.

        Raises:
            RequestError: Another command is at work, there is too little room, or it fails.
            OutputError: Its files cannot be written.
        """
        if self._is_busy:
            raise RequestError("something else is being made; try again in a moment", 503)
        self._is_busy = True
        try:
            return await self._make(arguments, name)
        except OSError as error:
            raise output_error(error.filename or "the download", error) from None
        finally:
            self._is_busy = False

    async def _make(self, arguments: Sequence[str], name: str) -> dict[str, Any]:
        if self._place is None or not self._place.path.exists():  # it may have been cleaned up
            self._place = TemporaryFolder("dgrec-view")
        while len(self._made) >= _MOST_KEPT:
            oldest = self._made.pop(next(iter(self._made))).folder
            await asyncio.to_thread(shutil.rmtree, oldest, ignore_errors=True)
        key = secrets.token_urlsafe(12)
        folder = self._place.path / key
        folder.mkdir()
        try:
            await asyncio.to_thread(_check_room, folder)
            await _run(arguments, folder)
            file = await asyncio.to_thread(_one_file, folder, name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._made[key] = _Made(folder, file)
        return {"id": key, "name": file.name, "bytes": file.stat().st_size}

    def file(self, key: str) -> Path:
        """Return a file that was made.

        Raises:
            RequestError: It is not there any more.
        """
        if key not in self._made:
            raise RequestError("it is not here any more: make it again", 404)
        return self._made[key].file

    def close(self) -> None:
        if self._place is not None:
            self._place.cleanup()


def _command(arguments: Sequence[str]) -> list[str]:
    return module_command(_PROGRAM, "-q", *arguments)


async def _run(arguments: Sequence[str], folder: Path) -> None:
    async with _process(_command(arguments), folder) as process:
        reading = asyncio.create_task(_errors_of(process))
        try:
            while not (await asyncio.wait([reading], timeout=_LOOK_S))[0]:
                await asyncio.to_thread(_check_room, folder)
        finally:
            reading.cancel()
        errors = reading.result()
    if process.returncode:
        lines = errors.decode(errors="replace").split("Error: ")
        raise RequestError(lines[-1].strip() or f"it ended with {process.returncode}", 422)


async def _errors_of(process: asyncio.subprocess.Process) -> bytes:
    """Return what a process says until it ends; `communicate` would close its input, and end it."""
    assert process.stderr is not None
    errors = await process.stderr.read()
    await process.wait()
    return errors


@contextlib.asynccontextmanager
async def _process(
    program: Sequence[str], folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program with little priority, and end it with the block."""
    process = await asyncio.create_subprocess_exec(
        *program,
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,  # it ends when this is closed
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the server
    )
    _restrict(process.pid)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _END_S)
            except TimeoutError:
                process.kill()


def _restrict(pid: int) -> None:
    with contextlib.suppress(ImportError, AttributeError, OSError):  # only Linux has them
        import resource

        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_MOST_BYTES, _MOST_BYTES))
        os.setpriority(os.PRIO_PROCESS, pid, 10)


def _check_room(folder: Path) -> None:
    if shutil.disk_usage(folder).free < _LEAST_FREE:
        place = folder.parent.parent
        raise RequestError(f"{place}: too little room; run the command, or set TMPDIR", 507)
    if folder_size(folder) > _MOST_BYTES:
        raise RequestError("it becomes too large to be downloaded: run the command", 422)


def _one_file(folder: Path, name: str) -> Path:
    """Return the only file in a folder, or a ZIP of them all."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if len(files) == 1:
        return files[0]
    made = folder / f"{name}.zip"
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:  # videos do not get smaller
        for path in files:
            archive.write(path, path.relative_to(folder))
            path.unlink()
    return made
