"""The table of recordings on terminals of any width."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from dgrec.replay.listing import list_session, write_listing
from dgrec.replay.output import Destination
from tests.factory import make_rows, write_session


@pytest.mark.parametrize(("name_length", "width"), [(10, 200), (60, 80), (10, 30)])
def test_a_line_for_each_value_has_every_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name_length: int, width: int
) -> None:
    """Long names, such as those of clips of alerts, leave no room for any table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(width))
    path = write_session(Path(f"{'n' * name_length}.parquet"), make_rows(3))
    file = io.BytesIO()
    write_listing([list_session(path)], "table", Destination(file, is_terminal=True))
    text = file.getvalue().decode()
    for name in ("session", "started", "length", "model", "fps", "drops", "size", "state"):
        assert name in text, text
