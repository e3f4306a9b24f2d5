"""Files and addresses that a program opens: it runs under strace, and what it opens is held against
what it may."""

from __future__ import annotations

import collections
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.hostile_files import OUTSIDE

__all__ = ["foreign_opens"]

#: What opening ends in, with the name that the kernel gives the file: links are resolved.
_OPENED = re.compile(r"(?P<pid>\d+) .*\) += \d+<(?P<path>.+?)>(?:\(deleted\))?$")
_CONNECTED = re.compile(r"(?P<pid>\d+) connect\(.*(?P<address>sa_family=AF_INET6?\b.*?)\}")
_REPOSITORY = Path(__file__).resolve().parent.parent
#: Where Python, its libraries and the system have theirs.
_LIBRARIES = ("/usr/", "/lib/", "/lib64/", "/sys/", "/etc/ld.so", "/etc/localtime", "/etc/ssl/")
#: Of /proc and /dev, what libraries look at; nothing of another process.
_SYSTEM = re.compile(
    r"/proc/(?:\d+/(?:task/\d+/)?(?:fd|maps|stat|status|cgroup|mountinfo|statm|auxv|smaps_rollup"
    r"|comm|cmdline)?/?|cpuinfo|meminfo|stat|mounts|filesystems|sys/.*|version|loadavg)?"
    r"|/tmp/#\d+"  # without a name
    r"|/dev(?:/(?:null|urandom|random|tty|ptmx|pts/\d+|shm/.*)?)?"
)


def foreign_opens(arguments: Sequence[str]) -> Iterator[str]:
    """Run ``python -m ARGUMENTS`` and yield a line for each place that it should not have opened.

    What the first process opens is left out: it writes the files that the others read.
    """
    with tempfile.NamedTemporaryFile("r", prefix="dgrec-strace-", errors="replace") as log:
        trace = "trace=open,openat,openat2,connect"
        strace = ["strace", "-f", "-qq", "-y", "--seccomp-bpf", "-e", trace, "-e", "signal=none"]
        subprocess.run([*strace, "-o", log.name, sys.executable, "-m", *arguments], check=False)
        opened: collections.Counter[str] = collections.Counter()
        connected: collections.Counter[str] = collections.Counter()
        first = None
        for line in log:
            first = first or line.split()[0]
            for pattern, counter in ((_OPENED, opened), (_CONNECTED, connected)):
                found = pattern.match(line)
                if found is not None and found["pid"] != first:
                    counter[found[found.lastindex or 1]] += 1
    print(f"{opened.total():,} files opened, {len(opened):,} different ones", flush=True)
    for path, count in sorted(opened.items()):
        if not _is_allowed(path):
            yield f"opened    {count} times: {path}"
    for address, count in sorted(connected.items()):
        yield f"connected {count} times: {address}"


def _is_allowed(path: str) -> bool:
    temporary = f"{tempfile.gettempdir()}/"
    if path.startswith(f"{temporary}dgrec-"):
        return f"/{OUTSIDE}/" not in path
    folders = [_REPOSITORY, *map(Path, (sys.prefix, sys.base_prefix, *filter(None, sys.path)))]
    prefixes = [f"{name}/" for folder in folders for name in (folder, folder.resolve())]
    if f"{path}/".startswith((*_LIBRARIES, *prefixes)):
        return True
    return _SYSTEM.fullmatch(path) is not None
