"""The structure of the code, as far as the import contracts in pyproject.toml cannot say it."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parent.parent
#: Modules by the name they are imported by, without following the links in `dgrec/`, and without
#: those of packages of Node, where they are installed.
MODULES = {
    ".".join(("dgrec", *path.relative_to(folder).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for folder, pattern in (
        (ROOT / "dgrec", "**/*.py"),
        (ROOT, "recorder/**/*.py"),
        (ROOT, "replay/**/*.py"),
    )
    for path in sorted(folder.glob(pattern))
    if "node_modules" not in path.parts
    if not any(parent.is_symlink() for parent in path.parents)
}
PACKAGES = {
    name
    for name, path in MODULES.items()
    if path.name == "__init__.py" and name not in ("dgrec", "dgrec.recorder", "dgrec.replay")
}


def imports(path: Path, *, only_at_import_time: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Yield (module, names imported from it); with the flag, of imports that importing runs."""
    yield from _walk(ast.parse(path.read_text(encoding="utf-8"), str(path)), only_at_import_time)


def _walk(node: ast.AST, only_at_import_time: bool) -> Iterator[tuple[str, list[str]]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((name.name, []) for name in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield "." * child.level + (child.module or ""), [name.name for name in child.names]
        elif not (only_at_import_time and _runs_later(child)):
            yield from _walk(child, only_at_import_time)


def _runs_later(node: ast.AST) -> bool:
    """Return whether importing the module passes over what is inside ``node``."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _package_of(module: str) -> str | None:
    while module not in PACKAGES and "." in module:
        module = module.rpartition(".")[0]
    return module if module in PACKAGES else None


def test_all_rooms_are_looked_at() -> None:
    rooms = {name.split(".")[1] for name in MODULES if "." in name}
    assert {"recorder", "replay", "format", "session", "cli"} <= rooms
    assert len(MODULES) > 150


#: Modules with subclasses of PySDK's, which others import in functions only.
SUBCLASSING = tuple(
    f"dgrec.stand_in.{name}" for name in ("run", "session_model", "replayed_zoo", "zoo")
)


@pytest.mark.slow
def test_pysdk_is_imported_where_it_is_used() -> None:
    """It takes 1.2 s: ``dgrec query`` must not wait for it."""
    heavy = [
        f"{name} imports {module}"
        for name, path in MODULES.items()
        if name not in SUBCLASSING
        for module, _ in imports(path, only_at_import_time=True)
        if module.split(".")[0] in ("degirum", "degirum_tools") or module in SUBCLASSING
    ]
    assert heavy == []


@pytest.mark.slow
def test_from_outside_a_folder_is_imported_by_its_face() -> None:
    """`from dgrec.format import Row`: what a folder's ``__init__`` has is what others may use."""
    deep = [
        f"{name} imports {', '.join(names)} from {module}"
        for name, path in MODULES.items()
        for module, names in imports(path)
        if (package := _package_of(module)) not in (None, _package_of(name), module)
        # Commands are gathered one by one: to show their help, none is to load what it uses.
        and package != "dgrec.replay.commands"
    ]
    assert deep == []


@pytest.mark.slow
def test_inside_a_folder_modules_are_imported() -> None:
    """By way of its face they would import each other in a circle."""
    circular = [
        f"{name} imports {', '.join(names)} from {module}"
        for name, path in MODULES.items()
        if name not in PACKAGES
        for module, names in imports(path)
        if module in PACKAGES and module == _package_of(name)
        if any(f"{module}.{imported}" not in MODULES for imported in names)
    ]
    assert circular == []


#: What pytest finds by its name, and commands that are gathered where they are made.
FOUND_OTHERWISE = re.compile(r"pytest_addoption|dgrec_check|\w+_command")


@pytest.mark.slow
def test_what_a_module_keeps_to_itself_begins_with_an_underscore() -> None:
    """Functions and constants. A type may be what a function takes; faces say what they have."""
    trees = {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for path in (*MODULES.values(), *ROOT.glob("tests/**/*.py"), *ROOT.glob("bench/*.py"))
    }
    used = {path: set(_names_used(tree)) for path, tree in trees.items()}
    uses = Counter(name for names in used.values() for name in names)
    own = [
        f"{module}.{name}"
        for module, path in MODULES.items()
        if module.count(".") > 1 and path.name != "__init__.py"
        for name in _public_names(trees[path])
        if not FOUND_OTHERWISE.fullmatch(name)
        if uses[name] == (1 if name in used[path] else 0)
    ]
    assert own == []


def _names_used(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value  # a name that is looked up


def _public_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [
                each.id
                for target in targets
                for each in ast.walk(target)
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
            ]
        else:
            continue
        # Not types, which are CamelCase.
        yield from (each for each in names if each[0] != "_" and (each.islower() or each.isupper()))


@pytest.mark.slow
def test_what_bench_and_examples_import_is_there() -> None:
    """Nothing else runs all of their functions."""
    gone = [
        f"{path.relative_to(ROOT)}: {name} from {module}"
        for folder in ("bench", "examples", "docs")
        for path in sorted((ROOT / folder).glob("**/*.py"))
        for module, names in imports(path)
        if module.split(".")[0] == "dgrec"
        for name in names
        if not hasattr(importlib.import_module(module), name)
        and importlib.util.find_spec(f"{module}.{name}") is None
    ]
    assert gone == []


@pytest.mark.slow
def test_everything_is_imported_from_dgrec() -> None:
    """``import recorder`` would find a user's own ``recorder.py``, or a second copy of ours."""
    files = subprocess.run(
        ["git", "ls-files", "--", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(files) > 250
    bare = [
        f"{file} imports {module}"
        for file in files
        if not (ROOT / file).is_symlink()
        for module, _ in imports(ROOT / file)
        if module.split(".")[0] in ("recorder", "replay") or module.startswith(".")
    ]
    assert bare == []


def test_the_reader_of_imports_sees_all_forms(tmp_path: Path) -> None:
    source = (
        "import a.b\nfrom c import d\nif TYPE_CHECKING:\n    import e\n"
        "def f():\n    import g\nclass H:\n    import i\ntry:\n    import j\n"
        "except ImportError:\n    pass\nfrom . import k\n"
    )
    path = tmp_path / "module.py"
    path.write_text(source)
    assert [name for name, _ in imports(path)] == ["a.b", "c", "e", "g", "i", "j", "."]
    at_import_time = [name for name, _ in imports(path, only_at_import_time=True)]
    assert at_import_time == ["a.b", "c", "i", "j", "."]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel and the sdist; the wheel is built from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_wheel_holds_dgrec_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"dgrec", next(top for top in tops if top.endswith(".dist-info"))}
    modules = {name.removesuffix(".py").replace("/", ".") for name in names if name[-3:] == ".py"}
    missing = {
        f"{name}.__init__" if path.name == "__init__.py" else name for name, path in MODULES.items()
    } - modules
    assert missing == set()
    static = "dgrec/replay/viewing/static"
    pages = {f"{static}/{name}" for name in ("page.js", "export.html", "single.html")}
    assert {"dgrec/py.typed", "dgrec/sql/library.sql", *pages} <= {*names}
    assert "dgrec/sample_data/session.parquet" in names
    assert {f"dgrec/replay/viewing/static/{name}" for name in ("page.js", "NOTICE")} <= {*names}
    assert [name for name in names if "/viewing/page/" in name or "node_modules" in name] == []
    assert len(names) == len({*names})


@pytest.mark.slow
def test_the_sdist_has_all_that_a_wheel_is_built_from(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    assert [member.name for member in members if not member.isfile()] == []
    names = {member.name.partition("/")[2] for member in members}
    assert {"pyproject.toml", "README.md", "LICENSE", "dgrec/recorder/cli.py"} <= names
    assert {"tests/test_architecture.py", "dgrec/sample_data/faces.mp4"} <= names


@pytest.mark.slow
def test_files_beside_a_user_s_program_are_not_taken_for_ours(tmp_path: Path) -> None:
    for name in ("recorder.py", "replay.py", "format.py", "session.py"):
        (tmp_path / name).write_text("raise AssertionError('this is the user\\'s own')\n")
    for name in ("tests", "recorder", "replay"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise AssertionError('so is this')\n")
    (tmp_path / "dgrec.toml").write_text('[tool.other]\nsources = 3\nname = "x"\n')
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for arguments in (
        ("record", "--source", "sample", "--max-frames", "3", "-o", "s.parquet", "--quiet"),
        ("replay", "s.parquet", "-o", "s.mp4", "--quiet"),
        ("query", "s.parquet", "SELECT count(*) FROM frames"),
        ("stats", "s.parquet"),
        ("verify", "s.parquet"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "dgrec", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stderr)
