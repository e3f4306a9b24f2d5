"""What a page asks to be made of a marked part: by the commands that it shows, for a download."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dgrec.replay.exports import format_of
from dgrec.replay.viewing.parameters import RequestError

__all__ = ["Downloads", "command"]

#: What is made for pages may take so many bytes, and so much has to stay free.
_MOST_BYTES: Final = 4_000_000_000
_LEAST_FREE: Final = 1_000_000_000
#: Things that were made stay until so many others were.
_MOST_KEPT: Final = 3
#: How long a command may take to end, in seconds, once nobody waits for it.
_END_S: Final = 1.0
_LONGEST_NAME: Final = 80


def command(
    path: Path, kind: str, first: int, last: int, form: str, stem: str
) -> tuple[list[str], str]:
    """Return the arguments of `dgrec` that make something of rows, and the name of the output.

    Args:
        kind: ``clip``, ``export`` or ``png``.
        first: Position of the first row.
        last: Position of the last.
        form: Of an export.
        stem: What the output's name begins with.

    Raises:
        RequestError: There is no such kind.
        ConfigError: There is no such format.
    """
    stretch = [os.path.abspath(path), "--start", str(first), "--end", str(last + 1)]
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
    name = re.sub(r"[^\w.@+=-]+", "_", text).strip("._-")
    return name[:_LONGEST_NAME] or "session"


@dataclass(frozen=True)
class _Made:
    folder: Path
    file: Path


class Downloads:
    """Makes one thing at a time, by a process of its own; the last few can be fetched."""

    def __init__(self) -> None:
        self._place: tempfile.TemporaryDirectory[str] | None = None
        self._made: dict[str, _Made] = {}
        self._is_busy = False

    async def make(self, arguments: Sequence[str], name: str) -> dict[str, Any]:
        """Run a command of `dgrec`; it ends if this is cancelled.

        Returns ``id``, ``name`` and ``bytes`` of the file, a ZIP where there are several.

        Raises:
            RequestError: Another one is at work, there is too little room, or it fails.
        """
        if self._is_busy:
            raise RequestError("something else is being made; try again in a moment", 409)
        self._is_busy = True
        try:
            return await self._make(arguments, name)
        finally:
            self._is_busy = False

    async def _make(self, arguments: Sequence[str], name: str) -> dict[str, Any]:
        if self._place is None:
            self._place = tempfile.TemporaryDirectory(prefix="dgrec-view-")
        if shutil.disk_usage(self._place.name).free < _LEAST_FREE:
            raise RequestError(f"{self._place.name}: too little room: run the command", 507)
        while len(self._made) >= _MOST_KEPT:
            await asyncio.to_thread(shutil.rmtree, self._made.pop(next(iter(self._made))).folder)
        folder = Path(tempfile.mkdtemp(dir=self._place.name))
        try:
            await _run(arguments, folder)
            file = await asyncio.to_thread(_one_file, folder, name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        key = secrets.token_urlsafe(12)
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


def _arguments_of(arguments: Sequence[str]) -> list[str]:
    return ["-P", "-m", "dgrec", "-q", *arguments]


async def _run(arguments: Sequence[str], folder: Path) -> None:
    program = (sys.executable, *_arguments_of(arguments))
    async with _process(program, folder) as process:
        _, errors = await process.communicate()
    if process.returncode:
        lines = errors.decode(errors="replace").split("Error: ")
        raise RequestError(lines[-1].strip() or f"it ended with {process.returncode}", 422)


@contextlib.asynccontextmanager
async def _process(
    program: Sequence[str], folder: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program with little priority, and end it with the block."""
    process = await asyncio.create_subprocess_exec(
        *program,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
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
    with contextlib.suppress(ImportError, AttributeError, OSError):  # of Linux
        import resource

        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_MOST_BYTES, _MOST_BYTES))
        os.setpriority(os.PRIO_PROCESS, pid, 10)


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
