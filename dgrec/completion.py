"""Shell completion of sessions, files, columns and models; the scripts for each shell.

click asks for completions and knows the shells. The scripts for them are our own, since click's
cannot complete the files that are sessions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
)

from dgrec.paths import SESSION_SUFFIXES

__all__ = ["columns", "files", "footage", "models", "register", "script", "sessions", "zoos"]

_VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".m3u8")
#: Zoos in DeGirum's cloud, by the names that its documentation gives them.
_CLOUD_ZOOS = ("degirum/public", "degirum/hailo")
_WORD_AT_END = re.compile(r"\w*\Z")

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion kind value
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r kind value <<< "$completion"
        case $kind in
            path|folder) compopt -o filenames ;;
            dir) compopt -o dirnames; continue ;;
            file) compopt -o default; continue ;;
        esac
        COMPREPLY+=("$value")
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s
%(complete_func)s() {
    local -a response words_found files folders
    local kind value description output
    (( ! $+commands[%(prog_name)s] )) && return 1
    local -x COMP_WORDS="$words" COMP_CWORD=$((CURRENT - 1)) %(complete_var)s=zsh_complete
    output="$(%(prog_name)s)"
    response=("${(@f)output}")
    for kind value description in "${response[@]}"; do
        case $kind in
            path) files+=("$value") ;;
            folder) folders+=("$value") ;;
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            plain) words_found+=("$value") ;;
        esac
    done
    (( $#words_found )) && compadd -U -V words -a words_found
    (( $#files )) && compadd -U -V files -a files
    (( $#folders )) && compadd -U -V folders -S / -a folders
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = """\
function %(complete_func)s
    set -lx %(complete_var)s fish_complete
    set -lx COMP_WORDS (commandline -cp | string collect)
    set -lx COMP_CWORD (commandline -t | string collect)
    set -l response (%(prog_name)s)
    for completion in $response
        set -l found (string split -m 1 "," -- $completion)
        switch $found[1]
            case dir
                __fish_complete_directories $found[2]
            case file
                __fish_complete_path $found[2]
            case folder
                echo -- $found[2]/
            case '*'
                echo -- $found[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class _Bash(BashComplete):
    source_template = _BASH


class _Zsh(ZshComplete):
    source_template = _ZSH


class _Fish(FishComplete):
    source_template = _FISH


def register() -> None:
    """Let click answer the scripts of `script`."""
    for each in (_Bash, _Zsh, _Fish):
        add_completion_class(each)


def script(root: click.Command, shell: str) -> str:
    """Return the script that makes ``shell`` (bash, zsh or fish) complete the command."""
    register()
    kind = get_completion_class(shell)
    assert kind is not None
    # Not the class's own method: for bash it would check which version is installed here.
    return ShellComplete.source(kind(root, {}, "dgrec", "_DGREC_COMPLETE"))


def sessions(incomplete: str) -> list[CompletionItem]:
    """Return sessions and journals whose names begin with ``incomplete``, and folders."""
    return files(incomplete, SESSION_SUFFIXES)


def footage(incomplete: str) -> list[CompletionItem]:
    """Return videos and sessions whose names begin with ``incomplete``, and folders."""
    return files(incomplete, (*SESSION_SUFFIXES, *_VIDEOS))


def files(incomplete: str, suffixes: Iterable[str] = ()) -> list[CompletionItem]:
    """Return files with one of these suffixes whose names begin with this, and folders."""
    wanted = tuple(suffixes)
    start = incomplete.rpartition("/")[2]
    before = incomplete[: len(incomplete) - len(start)]
    place = Path(before).expanduser() if before else Path()
    found = []
    for entry in _entries(place):
        if not entry.name.startswith(start) or (entry.name.startswith(".") and not start):
            continue
        if not entry.name.isprintable():
            continue
        if entry.is_dir():
            found.append(CompletionItem(before + entry.name, "folder"))
        elif entry.name.lower().endswith(wanted):
            found.append(CompletionItem(before + entry.name, "path"))
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def columns(incomplete: str, view: str) -> list[str]:
    """Return a condition with the word at its end completed to a column of a view."""
    from dgrec.format import DETECTION, SCHEMA

    names = [name for name in SCHEMA.names if name not in ("detections", "pixel_signature")]
    if view == "detections":
        names += [field.name for field in DETECTION]
    else:
        names += ["count(", "best("]
    word = _WORD_AT_END.search(incomplete)
    assert word is not None
    start = incomplete[: word.start()]
    return [start + name for name in names if name.startswith(word.group())]


def zoos(incomplete: str) -> list[CompletionItem]:
    """Return folders, and zoos in DeGirum's cloud."""
    cloud = [CompletionItem(name) for name in _CLOUD_ZOOS if name.startswith(incomplete)]
    return [*cloud, *files(incomplete)]


def models(incomplete: str, zoo: str) -> list[str]:
    """Return the models in a zoo that is a folder."""
    return sorted(name for name in _models_in(Path(zoo or ".")) if name.startswith(incomplete))


def _models_in(zoo: Path) -> Iterator[str]:
    for entry in _entries(zoo):
        name = entry.name
        if entry.is_dir() and Path(entry.path, f"{name}.json").is_file():
            yield name
