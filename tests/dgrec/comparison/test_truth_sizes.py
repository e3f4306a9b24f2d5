"""Ground truth and recordings whose pictures have a size, or none that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

import dgrec
from dgrec.errors import DgrecError
from tests.factory import make_detection, make_row, write_session


@pytest.mark.parametrize(("width", "known"), [(0, False), (320, True)])
@pytest.mark.parametrize("swapped", [False, True])
def test_only_sizes_that_are_known_are_compared(
    tmp_path: Path, width: int, known: bool, swapped: bool
) -> None:
    """Results that a program recorded without their pictures have no size: 0x0."""
    paths = []
    for name, size in (("one", (640, 480)), ("other", (width, width))):
        rows = [make_row(i, [make_detection(i)], width=size[0], height=size[1]) for i in range(3)]
        paths.append(write_session(tmp_path / f"{name}.parquet", rows))
    if swapped:
        paths.reverse()
    if known:
        with pytest.raises(DgrecError, match="boxes must be in pixels"):
            dgrec.accuracy(paths[0], truth=paths[1])
    else:
        assert dgrec.accuracy(paths[0], truth=paths[1]).recall == 1
