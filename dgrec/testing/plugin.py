"""Fixtures for pytest: a recording as a model and as a camera, and results as expected ones.

pytest imports this in every run, so it imports nothing else of dgrec before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UPDATE = "--dgrec-update"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of these fixtures."""
    parser.getgroup("dgrec").addoption(
        _UPDATE,
        action="store_true",
        help="save the results given to dgrec_check as the new expected results",
    )


@pytest.fixture
def dgrec_model(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that loads a recording as a PySDK model, with `dgrec.model`'s arguments.

    A path is taken from the folder of the test's file.

    Example:
        def test_two_people_ring_the_bell(dgrec_model, dgrec_camera):
            assert app.run(dgrec_model("door.parquet"), dgrec_camera("door.parquet")) == ["ring"]
    """

    def load(session: str | Path, **options: Any) -> Any:
        import dgrec

        __tracebackhide__ = True
        return _in_one_line(dgrec.model, _beside(request, session), **options)

    return load


@pytest.fixture
def dgrec_camera(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a recording as a camera, with `dgrec.camera`'s arguments.

    It gives its pictures as fast as they are asked for, unless ``pace="recorded"``. It is released
    when the test has ended.
    """
    with ExitStack() as stack:

        def open_camera(session: str | Path, **options: Any) -> Any:
            import dgrec

            __tracebackhide__ = True
            path = _beside(request, session)
            camera = _in_one_line(dgrec.camera, path, **{"pace": "fast", **options})
            stack.callback(camera.release)
            return camera

        yield open_camera


@pytest.fixture
def dgrec_check(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    """Return a function that compares results with those of a recording.

    ``dgrec_check(results, "expected.parquet")`` fails if results, or what analyzers added to them,
    are not as recorded there; it names the first frames that differ, and draws them. ``tolerance``
    is by how much numbers may differ (scores, and pixels of boxes). ``pytest --dgrec-update``
    writes the results as the expected ones.
    """

    def check(results: Iterable[Any], expected: str | Path, *, tolerance: float = 0.0) -> None:
        from dgrec.paths import with_session_suffix
        from dgrec.testing import differences

        __tracebackhide__ = True
        path = with_session_suffix(_beside(request, expected))
        if request.config.getoption(_UPDATE):
            _in_one_line(differences.write, results, path)
            return
        if not path.exists():
            pytest.fail(f"{path} does not exist: pytest {_UPDATE} writes it", pytrace=False)
        report = _in_one_line(differences.compare, results, path, tmp_path, tolerance)
        if report:
            pytest.fail(report, pytrace=False)

    return check


def _in_one_line(called: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function; for dgrec's errors, pytest shows the test's line and the message."""
    from dgrec.errors import DgrecError

    __tracebackhide__ = True
    try:
        return called(*arguments, **options)
    except DgrecError as error:
        raise error.with_traceback(None) from None


def _beside(request: pytest.FixtureRequest, path: str | Path) -> Path:
    return request.path.parent / path
