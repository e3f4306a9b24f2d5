"""Files made to break a reader, through every command that reads: what each ends in.

python -m bench.hostile [FOLDER...] [--kinds mcvdxpjtnr] [--every N] [--fuzz N] [--strace]

With folders, the files in them are read too. Prints a line for each traceback, crash, timeout,
too much memory, and control character that reached the terminal; with --strace also for each file
that was opened and has nothing to do with the one that is read.
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.opened_files import foreign_opens
from tests.hostile_files import KINDS, fuzzed, write_cases
from tests.hostile_runner import COMMANDS, Finding, run

_WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, help="more files to read")
    parser.add_argument("--kinds", default=KINDS, help="which files to make")
    parser.add_argument("--only", default="", help="names must contain this")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth file only")
    parser.add_argument("--commands", default="", help="some commands, with commas")
    parser.add_argument("--fuzz", type=int, default=0, help="changed copies of real sessions")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--strace", action="store_true", help="see which files are opened")
    options = parser.parse_args()
    if options.strace:
        arguments = [argument for argument in sys.argv[1:] if argument != "--strace"]
        foreign = list(foreign_opens(["bench.hostile", *arguments]))
        print("\n".join(foreign) or "no foreign file was opened, no connection made")
        sys.exit(bool(foreign))
    commands = options.commands.split(",") if options.commands else list(COMMANDS)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dgrec-hostile-") as name:
        folder = Path(name)
        paths = list(write_cases(folder, options.kinds))
        paths += fuzzed(folder, options.fuzz, options.seed)
        for more in options.folders:
            paths += sorted(more.iterdir())
        paths = [path for path in paths if options.only in path.name][:: options.every]
        print(f"{len(paths)} files, {len(commands)} commands", flush=True)
        counts: collections.Counter[str] = collections.Counter()
        for finding in _in_workers(paths, commands):
            print(finding, flush=True)
            counts[finding.kind] += 1
    print(f"\n{len(paths)} files in {time.monotonic() - started:.0f} s:", dict(counts) or "nothing")
    sys.exit(bool(counts))


def _in_workers(paths: list[Path], commands: list[str]) -> Iterator[Finding]:
    """Run a share of the files in each of some processes."""
    read, write = os.pipe()
    workers = []
    for number in range(_WORKERS):
        pid = os.fork()
        if pid == 0:
            os.close(read)
            _worker(paths[number::_WORKERS], commands, write)
        workers.append(pid)
    os.close(write)
    with open(read, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            path, command, kind, detail = line.rstrip("\n").split("\t", 3)
            yield Finding(Path(path), command, kind, detail)
    for pid in workers:
        _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit("a worker has failed: not all files were read")


def _worker(paths: list[Path], commands: list[str], write: int) -> None:
    """Write what is found, a line each; short lines of several processes do not mix in a pipe."""
    for finding in run(paths, commands):
        texts = (str(finding.path), finding.command, finding.kind, finding.detail[:300])
        line = "\t".join(" ".join(text.split()) for text in texts)
        os.write(write, f"{line}\n".encode("utf-8", "surrogateescape"))
    os._exit(0)


if __name__ == "__main__":
    main()
