"""The list of hostile statements, for the tests and for ``python -m bench.sandbox``."""

from __future__ import annotations

from pathlib import Path

__all__ = ["STATEMENTS", "files_in"]


def _read() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    kind = ""
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("["):
            kind = line.strip("[]")
        elif line and not line.startswith("#"):
            found.setdefault(kind, []).append(line)
    return found


#: Statements by what refuses them.
STATEMENTS = _read()


def files_in(folder: Path) -> dict[Path, bytes]:
    """Return what stands in each file below a folder, to see afterwards what has changed."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
