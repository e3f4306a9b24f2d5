"""The walls between the rooms, read from the code itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("dgrec", "recorder", "replay")
MODULES = [
    path.relative_to(ROOT)
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
    if "sample_data" not in path.parts
]


def imports(path: Path, *, only_at_import_time: bool = False) -> Iterator[tuple[str, int]]:
    """Yield (module, line) of each import; with the flag, only of those that importing runs."""
    tree = ast.parse((ROOT / path).read_text(), str(path))
    yield from _walk(tree, path, only_at_import_time)


def _walk(node: ast.AST, path: Path, only_at_import_time: bool) -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for name in child.names:
                yield name.name, child.lineno
        elif isinstance(child, ast.ImportFrom):
            if child.level:
                package = path.parent.parts[: len(path.parent.parts) - child.level + 1]
                yield ".".join([*package, child.module or ""]).rstrip("."), child.lineno
            else:
                assert child.module is not None
                yield child.module, child.lineno
        elif not (only_at_import_time and _runs_later(child)):
            yield from _walk(child, path, only_at_import_time)


def _runs_later(node: ast.AST) -> bool:
    """Return whether importing the module passes over what is inside ``node``."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def rooms_of(path: Path, *rooms: str) -> list[str]:
    return [
        f"{path}:{line} imports {module}"
        for module, line in imports(path)
        if module.split(".")[0] in rooms
    ]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_rooms_keep_to_themselves(path: Path) -> None:
    if path == Path("dgrec/cli.py"):  # the front door, which gathers both rooms' commands
        return
    others = {
        "dgrec": ("recorder", "replay", "tests", "bench"),
        "recorder": ("replay", "tests", "bench"),
        "replay": ("recorder", "tests", "bench"),
    }
    assert rooms_of(path, *others[path.parts[0]]) == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_only_commands_know_click(path: Path) -> None:
    # options.py holds the decorators that several commands share.
    if not path.name.endswith("cli.py") and path.name != "options.py":
        assert rooms_of(path, "click") == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_pysdk_is_imported_where_it_is_used(path: Path) -> None:
    """It takes 1.2 s: ``dgrec query`` must not wait for it."""
    heavy = [
        f"{path}:{line} imports {module}"
        for module, line in imports(path, only_at_import_time=True)
        if module.split(".")[0] in ("degirum", "degirum_tools")
    ]
    assert heavy == []


def test_the_reader_of_imports_sees_all_forms(tmp_path: Path) -> None:
    source = (
        "import a.b\nfrom c import d\nif TYPE_CHECKING:\n    import e\n"
        "def f():\n    import g\nclass H:\n    import i\ntry:\n    import j\n"
        "except ImportError:\n    pass\n"
    )
    path = tmp_path / "module.py"
    path.write_text(source)
    assert [name for name, _ in imports(path)] == ["a.b", "c", "e", "g", "i", "j"]
    at_import_time = [name for name, _ in imports(path, only_at_import_time=True)]
    assert at_import_time == ["a.b", "c", "i", "j"]
