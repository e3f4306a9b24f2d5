"""The bundled model, loaded once: it is what takes the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from dgrec.recorder.model import LoadedModel, ModelRequest, load_model
from tests.recorder.command import Command


@pytest.fixture(scope="session")
def loaded() -> LoadedModel:
    return load_model(ModelRequest())


@pytest.fixture
def dgrec(tmp_path: Path) -> Command:
    """The command ``dgrec``, run as a process of its own in an empty folder."""
    return Command(tmp_path)
