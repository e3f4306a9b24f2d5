"""The public names, and what importing them costs."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dgrec
from dgrec import errors
from tests.factory import make_rows, write_session

MODULES = sorted(
    f"dgrec.{path.stem}"
    for path in Path(dgrec.__file__).parent.glob("*.py")
    if not path.stem.startswith("_")
)


def test_all_is_sorted_and_importable() -> None:
    assert dgrec.__all__ == sorted(dgrec.__all__)
    assert dir(dgrec) == dgrec.__all__
    for name in dgrec.__all__:
        assert getattr(dgrec, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dgrec.nothing


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_offers(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", []):
        assert hasattr(module, public), public


def test_every_error_is_public_and_of_one_family() -> None:
    for name in errors.__all__:
        assert getattr(dgrec, name) is getattr(errors, name)
        assert issubclass(getattr(errors, name), dgrec.DgrecError)
        assert name in errors.__doc__


HEAVY = ("pyarrow", "numpy", "degirum", "degirum_tools", "duckdb", "cv2", "av", "click", "rich")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import dgrec", ()),
        ("from dgrec import DgrecError", ()),
        ("import dgrec.session", ("pyarrow", "numpy")),
        ("import dgrec; dgrec.open", ("pyarrow", "numpy")),
    ],
)
def test_imports_are_light(statement: str, allowed: tuple[str, ...]) -> None:
    code = f"import sys\n{statement}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert set(output.split()) & set(HEAVY) <= set(allowed)


def test_open(tmp_path: Path) -> None:
    path = write_session(tmp_path / "a.parquet", make_rows(3))
    with dgrec.open(path) as session:
        assert isinstance(session, dgrec.Session)
        assert isinstance(session.result(0), dgrec.RecordedResult)
    with dgrec.open(str(path)) as session:
        assert len(session) == 3


_ROOT = Path(__file__).parents[2]
PACKAGES = sorted(
    f"dgrec.{'.'.join(init.parent.relative_to(_ROOT).parts)}".replace("dgrec.dgrec", "dgrec")
    for folder in ("dgrec", "recorder", "replay")
    for init in (_ROOT / folder).rglob("__init__.py")
)
#: Packages whose tables leave modules out, or are about something else.
_PARTIAL = {"dgrec.replay", "dgrec.replay.exports.formats"}
_OF_FORMATS = {"dgrec.replay.output"}


@pytest.mark.parametrize("name", PACKAGES)
def test_tables_of_packages_list_their_modules(name: str) -> None:
    package = importlib.import_module(name)
    table = re.search(r"^=+  =+\n(.*?)^=+  =+$", package.__doc__ or "", flags=re.M | re.S)
    if table is None or name in _OF_FORMATS:
        return
    listed = {word.strip("`/") for word in re.findall(r"^(\S+)", table[1], flags=re.M)}
    modules = {each.name for each in pkgutil.iter_modules(package.__path__)}
    assert listed <= modules
    assert name in _PARTIAL or listed == modules
