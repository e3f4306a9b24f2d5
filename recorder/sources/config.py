"""``dgrec.toml``, which gives names to sources.

    [sources]
    entrance = "rtsp://${CAM_USER}:${CAM_PASSWORD}@192.0.2.10/stream1"
    yard = "cam1"

Environment variables are filled in when a source is opened, so that the file holds no password. The
file is looked for in the working folder, then in those above it.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from pathlib import Path

from dgrec.errors import ConfigError
from dgrec.files import read_small_text

__all__ = ["CONFIG_NAME", "expand", "named_sources"]

CONFIG_NAME = "dgrec.toml"
_LONGEST_NAME = 100
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def named_sources(folder: Path) -> dict[str, str]:
    """Return the sources that dgrec.toml names, in a folder or the nearest one above that has it.

    Raises:
        ConfigError: The file is not TOML, or not of this form.
    """
    path = _nearest(folder)
    try:
        table = tomllib.loads(read_small_text(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    except ValueError as error:  # not text, or not TOML
        raise ConfigError(f"{path}: {error}") from None
    sources = table.get("sources", {})
    if not isinstance(sources, dict):
        raise ConfigError(f"{path}: [sources] must be a table of names")
    return {name: _target(path, name, value) for name, value in sources.items()}


def _nearest(folder: Path) -> Path:
    """Return the file in a folder or above; there, one of somebody else's does not count.

    It can send what an environment variable holds to any address.
    """
    for above in folder.absolute().parents if not (folder / CONFIG_NAME).exists() else ():
        path = above / CONFIG_NAME
        with contextlib.suppress(OSError):
            if path.stat().st_uid in (0, os.getuid()):
                return path
    return folder / CONFIG_NAME


def expand(text: str) -> str:
    """Fill in ``${NAME}`` from the environment.

    Raises:
        ConfigError: There is no such variable.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            raise ConfigError(f"{CONFIG_NAME}: environment variable {name} is not set")
        return os.environ[name]

    return _VARIABLE.sub(value, text)


def _target(path: Path, name: str, value: object) -> str:
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        raise ConfigError(
            f"{path}: {name[:20]!r}... is not a valid source name; expected 1 to "
            f"{_LONGEST_NAME} printable characters"
        )
    if not isinstance(value, str) or not value:
        raise ConfigError(f'{path}: source {name!r} must be a text such as "rtsp://..."')
    return value
