"""Writes docs/commands.md, the command reference, from the commands' own ``--help``.

python docs/make_commands.py            write it
python docs/make_commands.py --check    fail if it is not what the commands say
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dgrec.cli import gather

PAGE = Path(__file__).with_name("commands.md")

_HEAD = """# Command reference

Made from the commands' own help by `python docs/make_commands.py`; a test holds it against them.

Exit codes: 0 done, 1 something went wrong (one line on stderr says what), 2 the command line makes
no sense, 4 the disk is full, failing, read-only or gone: what was written before stays readable,
and the line says where. `recover` has 3 besides: saved, but part was lost. So has `compare`: a
`--fail-on` condition holds. `record` has 5: ended and sealed early, because the disk had come down
to `--min-free`.
"""


def reference() -> str:
    """Return the page as Markdown."""
    root = gather()
    parts = [_HEAD, _section(root, ["dgrec"])]
    parts += [_section(root.commands[name], ["dgrec", name]) for name in sorted(root.commands)]
    return "\n".join(parts)


def _section(command: click.Command, words: list[str]) -> str:
    # A fixed width: the page must not depend on the terminal it is made in.
    context = click.Context(command, info_name=" ".join(words), terminal_width=100)
    title = " ".join(words)
    return f"## {title}\n\n```\n{command.get_help(context)}\n```\n"


def main() -> int:
    text = reference()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") != text:
            print(f"{PAGE.name} is out of date: run python docs/make_commands.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
