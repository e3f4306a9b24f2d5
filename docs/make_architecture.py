"""Writes the picture in docs/architecture.md from the imports of the code.

python docs/make_architecture.py            write it
python docs/make_architecture.py --check    fail if the page shows another structure
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("architecture.md")
_BEGIN, _END = "<!-- begin: made from the imports -->\n", "<!-- end -->\n"
#: The folders that the picture shows, by where they stand. Single modules are left out: those at
#: the top of `dgrec` are what everything may import, and arrows to them would say nothing.
_FOLDERS = {"dgrec": ROOT / "dgrec", "recorder": ROOT / "recorder", "replay": ROOT / "replay"}


def picture() -> str:
    """Return the packages and what they import as a Mermaid flow chart."""
    packages = _packages()
    lines = ["```mermaid", "flowchart TD"]
    for home in _FOLDERS:
        lines.append(f"  subgraph {home}")
        lines += [
            f"    {_id(name)}[{name.rpartition('.')[2]}]"
            for name in packages
            if name.startswith(f"{_prefix(home)}.")
            and name.count(".") == _prefix(home).count(".") + 1
        ]
        lines.append("  end")
    edges = _without_detours(_edges(packages))
    lines += [f"  {_id(above)} --> {_id(below)}" for above, below in sorted(edges)]
    return "\n".join([*lines, "```", ""])


def _prefix(home: str) -> str:
    return home if home == "dgrec" else f"dgrec.{home}"


def _id(package: str) -> str:
    return package.removeprefix("dgrec.").replace(".", "_")


def _packages() -> list[str]:
    """Return the packages below the three rooms, as they are imported."""
    return [
        f"{_prefix(home)}.{init.parent.name}"
        for home, folder in _FOLDERS.items()
        for init in sorted(folder.glob("*/__init__.py"))
        if not init.parent.is_symlink()
    ]


def _edges(packages: list[str]) -> set[tuple[str, str]]:
    """Return which package imports which, also where that is done in a function."""
    edges = set()
    for package in packages:
        parts = package.split(".")[1:]
        for path in ROOT.joinpath(*(parts if len(parts) > 1 else ("dgrec", *parts))).glob("*.py"):
            for imported in _imports(path):
                for other in packages:
                    if other != package and f"{imported}.".startswith(f"{other}."):
                        edges.add((package, other))
    return edges


def _imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, but for those that only type checkers import."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            waiting += ast.iter_child_nodes(node)


def _without_detours(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the edges but those that say no more than a longer way from arrow to arrow."""
    below: dict[str, set[str]] = {}
    for above, other in edges:
        below.setdefault(above, set()).add(other)

    def reached(start: str) -> set[str]:
        return {start}.union(*map(reached, below.get(start, ())))

    return {
        (above, other)
        for above, other in edges
        if not any(other in reached(step) for step in below[above] - {other})
    }


def main() -> int:
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(_BEGIN)
    page = head + _BEGIN + picture() + _END + rest.partition(_END)[2]
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page, encoding="utf-8")
    elif page != text:
        print(f"{PAGE.name} is out of date: run python docs/make_architecture.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
