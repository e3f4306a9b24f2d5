"""Serves recordings in the foreground, and opens a browser."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from dgrec.errors import ConfigError
from dgrec.paths import JOURNAL_SUFFIX
from dgrec.replay.links import fragment
from dgrec.replay.query import remove_spilled
from dgrec.replay.viewing.recorder_link import RecorderLink
from dgrec.replay.viewing.server import ViewServer
from dgrec.replay.viewing.workers import THREADS
from dgrec.serving import Certificate, is_loopback

#: Parameters of mallopt.
_ARENA_MAX: Final = -8
_TRIM_THRESHOLD: Final = -1
#: How long threads are waited for at the end.
_END_S: Final = 2.0
_LISTEN: Final = re.compile(r"(?:(\[[^\]]+\]|[^:\[\]]+):)?(\d{1,5})", re.ASCII)


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of ``[HOST:]PORT``; for "", this machine and any free port.

    Raises:
        ConfigError: It is not an address.
    """
    match = _LISTEN.fullmatch(text) if text else None
    if text and (match is None or int(match[2]) >= 2**16):
        raise ConfigError(
            f"--listen {text!r} is not a valid address; expected PORT or HOST:PORT, such as 8080"
        )
    host = (match[1] or "127.0.0.1") if match else "127.0.0.1"
    return host.strip("[]"), int(match[2]) if match else 0


def show(
    places: Sequence[Path],
    host: str,
    port: int,
    certificate: Certificate | None,
    *,
    opens_browser: bool,
    say: Callable[[str], None],
    advise: Callable[[str], None],
    recorded: str | None = None,
    first: Sequence[Path] = (),
    frame: int | None = None,
    has_downloads: bool | None = None,
) -> None:
    """Serve recordings until Ctrl-C.

    Args:
        opens_browser: Show the page, where there is a display.
        say: Gets the address.
        advise: Gets what else there is to know.
        recorded: The name of the session that is shown first, "": none, where a recorder has
            started this process: it ends once standard input does and no page is open.
        first: The session that is shown first, and the one beside it; none: the list.
        frame: The frame that is shown first.
        has_downloads: Pages may have clips and exports made; None: only if this machine alone is
            served, and not beside a recorder.

    Raises:
        KeyboardInterrupt: By Ctrl-C.
        ConfigError: The certificate cannot be used.
        OutputError: The address cannot be served.
    """
    _return_memory()
    if has_downloads is None:
        has_downloads = is_loopback(host) and recorded is None
    server = ViewServer(places, host, port, certificate, has_downloads=has_downloads)
    try:
        server.prepare()
        place = _recorded(server, recorded) if recorded else _shown(server, first, frame)
        say(server.url + place)
        if not is_loopback(host):
            advise(_advice(server, is_secure=certificate is not None))
        elif opens_browser and has_display():
            # Some browsers do not return before they are closed.
            threading.Thread(
                target=_open, args=(server.single_use_url() + place,), daemon=True
            ).start()
        if recorded is None:
            threading.Event().wait()
        server.recorder = RecorderLink(sys.stdin.buffer, say)
        server.recorder.read()
        if server.pages.are_open:
            _stay(say)
            server.pages.wait_until_closed()
    finally:
        _close(server)


def _close(server: ViewServer) -> None:
    """Close the server, and wait a moment for its threads: one may read a long session.

    Those that go on only read: `dgrec.cli` ends the process without them.
    """
    until_s = time.monotonic() + _END_S
    closing = threading.Thread(target=server.close, name=f"{THREADS}-closing", daemon=True)
    closing.start()
    closing.join(_END_S)
    threads = [each for each in threading.enumerate() if each.name.startswith(THREADS)]
    for thread in threads:
        thread.join(max(until_s - time.monotonic(), 0))
    if any(thread.is_alive() for thread in threads):
        remove_spilled()


def _stay(say: Callable[[str], None]) -> None:
    """Go on without the recorder: nobody reads the output any more."""
    with contextlib.suppress(OSError):  # it was killed
        say(json.dumps({"stays": True}))
    with open(os.devnull, "wb") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)


def _recorded(server: ViewServer, session: str) -> str:
    """Return the place of a recording in progress; what it replaces has its name until its end."""
    journal = session + JOURNAL_SUFFIX
    return fragment(journal if journal in server.recordings.names() else session)


def _shown(server: ViewServer, first: Sequence[Path], frame: int | None) -> str:
    names = {os.path.abspath(path): name for name, path in server.recordings.names().items()}
    found = [names.get(os.path.abspath(path), "") for path in first]
    return fragment(found[0], frame, *found[1:]) if found and all(found) else ""


def _return_memory() -> None:
    """Have memory that is free again returned to the system: a hundred megabytes, with threads."""
    import ctypes

    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())
    with contextlib.suppress(OSError, TypeError, AttributeError):  # only glibc has it
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_ARENA_MAX, 2)
        mallopt(_TRIM_THRESHOLD, 64 << 10)


def _advice(server: ViewServer, *, is_secure: bool) -> str:
    if is_secure:
        return "Whoever has this address and its token sees the recordings."
    return (
        "The connection is not encrypted: serve it on this machine only and use "
        f"`ssh -L {server.port}:127.0.0.1:{server.port} USER@THIS_HOST`, or give --cert."
    )


def has_display() -> bool:
    """Return whether a browser could show a window."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(url: str) -> None:
    try:
        webbrowser.open(url)
    except (OSError, webbrowser.Error):
        return
