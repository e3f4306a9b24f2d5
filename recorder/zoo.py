"""Where a model zoo is: a folder, an organisation's zoo in the cloud, or that of an AI server.

PySDK takes whatever has exactly one slash for an organisation and its zoo, also where a folder of
that name exists, and sends the name to the cloud. What is a folder here reaches it as an absolute
path, which it takes for nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from dgrec.credentials import redact
from dgrec.errors import ModelError

__all__ = ["CLOUD", "LOCAL", "folder_of", "nearest_models", "zoo_address"]

#: What PySDK calls this machine, and DeGirum's cloud, as places where inference runs.
LOCAL, CLOUD = "@local", "@cloud"
_CLOUD_HOST = "https://hub.degirum.com"

# A name that begins with a dot is a path for PySDK, too.
_ORGANISATION_AND_ZOO = re.compile(r"[\w-][\w.-]*/[\w.-]+/?")
#: A hub has thousands of models.
_MOST_NAMES = 8


def folder_of(zoo: str) -> Path | None:
    """Return the absolute path of a zoo that is a folder, or one model's JSON file, that exists."""
    if not zoo:
        return None
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # no path, or nobody's home
        path = Path(_path_of(zoo)).expanduser()
        if path.exists():
            return Path(os.path.abspath(path))
    return None


def zoo_address(zoo: str, host: str) -> str:
    """Return a zoo as PySDK has to be given it for inference on ``host``.

    Raises:
        ModelError: It is not there, or PySDK would take it for something else than what it is.
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
        return zoo  # a zoo accessor was registered under that name: it knows
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
    """Return which models a connected zoo has, nearest to ``name`` first.

    None if it has that one, or does not say what it has.
    """
    try:
        names = _names(zoo)
    except Exception:  # PySDK's own, and those of sockets and JSON below it
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
    # The public way leaves out what this machine has no device for, and asks the cloud for every
    # parameter of every model.
    with contextlib.suppress(Exception):
        return list(zoo._zoo._assets_mgr.get_model_list(True))
    return list(zoo.list_models())


def _path_of(zoo: str) -> str:
    if not zoo.lower().startswith("file:"):
        return zoo
    parts = urlsplit(zoo)
    return url2pathname(parts.netloc + parts.path)


def _full_address(zoo: str) -> str:
    """Return how to name the zoo in the cloud that a folder here has the name of."""
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
