"""The bundled model, loaded once: it is what takes the time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dgrec.recorder.model import LoadedModel, ModelRequest, load_model
from tests.recorder.command import Command
from tests.recorder.disks import Disk


@pytest.fixture(scope="session")
def loaded() -> LoadedModel:
    return load_model(ModelRequest())


@pytest.fixture
def dgrec(tmp_path: Path) -> Command:
    """The command ``dgrec``, run as a process of its own in an empty folder."""
    return Command(tmp_path)


@pytest.fixture
def new_disk(tmp_path: Path) -> Iterator[Callable[[int], Disk]]:
    with contextlib.ExitStack() as stack:

        def make(size: int) -> Disk:
            try:
                disk = Disk(tmp_path / "disk", size)
            except FileNotFoundError:
                pytest.skip("there is no mount command here")
            stack.callback(disk.unmount)
            return disk

        yield make
