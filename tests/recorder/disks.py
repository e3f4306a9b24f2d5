"""File systems of their own, for tests of full and read-only disks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

__all__ = ["Disk"]


class Disk:
    """A file system of its own, so many bytes large."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(
            ["mount", *arguments, str(self.path)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")

    def make_read_only(self) -> None:
        self._mount("-o", "remount,ro")

    def take_no_more_files(self) -> None:
        self._mount("-o", "remount,nr_inodes=1")

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], capture_output=True, check=False)
