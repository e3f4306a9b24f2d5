"""Model zoos: a folder, an organisation's zoo in the cloud, or the zoo of an AI server.

PySDK takes any name with exactly one slash for ORGANISATION/ZOO in the cloud, even if a folder of
that name exists. A folder is therefore given to it as an absolute path.
"""

from __future__ import annotations

import contextlib
import re
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from dgrec.credentials import redact
from dgrec.errors import ModelError
from dgrec.files import placed

#: PySDK's names for inference on this machine and in DeGirum's cloud.
LOCAL, CLOUD = "@local", "@cloud"
_CLOUD_HOST = "https://hub.degirum.com"

# PySDK takes a name that begins with a dot for a path.
_ORGANISATION_AND_ZOO = re.compile(r"[\w-][\w.-]*/[\w.-]+/?")
#: How many models a message lists: a hub has thousands.
_MOST_NAMES = 8


def folder_of(zoo: str) -> Path | None:
    """Return the absolute path of a zoo that is an existing folder or JSON file of a model."""
    if not zoo:
        return None
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # not a path, or unknown ~user
        if zoo.lower().startswith("file:"):
            parts = urlsplit(zoo)
            zoo = url2pathname(parts.netloc + parts.path)
        path = Path(zoo).expanduser()
        if path.exists():
            return placed(path)
    return None


def zoo_address(zoo: str, host: str) -> str:
    """Return a zoo's address as PySDK expects it for inference on ``host``.

    Raises:
        ModelError: There is no such zoo, or ``host`` cannot use it.
    """
    folder, shown = folder_of(zoo), redact(zoo)
    if folder is not None:
        if host == CLOUD:
            raise ModelError(
                f"{shown}: is on this machine, and is not sent to the cloud; say "
                f"--inference-host-address {LOCAL}{_full_address(zoo)}"
            )
        if not host.startswith("@"):
            raise ModelError(
                f"{shown}: is on this machine, and the AI server at {redact(host)} has a zoo of "
                f"its own; leave --zoo-url out, or say --inference-host-address {LOCAL}"
            )
        return str(folder)
    if host.startswith("@") and host not in (LOCAL, CLOUD):
        return zoo  # for the zoo accessor that was registered under that name
    is_server = not host.startswith("@")
    if is_server and (not zoo or zoo.startswith("aiserver://")):
        return zoo
    if not _is_cloud_address(zoo):
        raise ModelError(
            f"{shown}: no such zoo folder, nor the address of a zoo in the cloud "
            f"(ORGANISATION/ZOO, or {_CLOUD_HOST}/ORGANISATION/ZOO)"
        )
    return zoo


def nearest_models(zoo: Any, name: str) -> str | None:
    """Return the names of a connected zoo's models that are most like ``name``, as a text.

    None if the zoo has that model, or does not list its models.
    """
    try:
        names = _names(zoo)
    except Exception:  # PySDK's own errors, and those of sockets and JSON below it
        return None
    if name in names:
        return None
    if not names:
        return "no models at all"
    wanted = name.casefold()
    matcher = SequenceMatcher(b=wanted, autojunk=False)

    def unlikeness(other: str) -> tuple[bool, float, str]:
        matcher.set_seq1(other.casefold())
        return wanted not in other.casefold(), -matcher.ratio(), other

    nearest = sorted(names, key=unlikeness)[:_MOST_NAMES]
    more = len(names) - len(nearest)
    return ", ".join(nearest) + (f" and {more:,} more" if more else "")


def _names(zoo: Any) -> list[str]:
    # `list_models` leaves out models that this machine has no device for, and asks the cloud for
    # all parameters of every model.
    with contextlib.suppress(Exception):
        return list(zoo._zoo._assets_mgr.get_model_list(True))
    return list(zoo.list_models())


def _full_address(zoo: str) -> str:
    """Return a hint on how to name the zoo in the cloud that has the name of a folder here."""
    if not _ORGANISATION_AND_ZOO.fullmatch(zoo):
        return ""
    return f" (the zoo of that name in the cloud is {_CLOUD_HOST}/{zoo.rstrip('/')})"


def _is_cloud_address(zoo: str) -> bool:
    try:
        parts = urlsplit(zoo)
    except ValueError:
        return False
    if parts.scheme.lower() in ("http", "https") and parts.netloc:
        return not parts.path or parts.path.strip("/").count("/") == 1
    return _ORGANISATION_AND_ZOO.fullmatch(zoo) is not None
