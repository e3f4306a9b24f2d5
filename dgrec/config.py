"""``dgrec.toml`` in the working folder or one above, and secrets from the environment.

    [sources]
    entrance = "rtsp://${CAM_USER}:${CAM_PASSWORD}@192.0.2.10/stream1"

    [publish."broker.example"]
    user = "ann"
    password_file = "/run/secrets/broker"

Environment variables are filled in when a value is used, so that the file holds no password.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from dgrec.credentials import remember_secret
from dgrec.errors import ConfigError
from dgrec.files import read_small_text

__all__ = [
    "CONFIG_NAME",
    "config_file",
    "config_path",
    "environment_secret",
    "expand",
    "file_secret",
    "read_config",
]

CONFIG_NAME = "dgrec.toml"
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_LONGEST_SECRET = 10_000


def config_file(folder: Path) -> Path:
    """Return the path of dgrec.toml in a folder, or the nearest one above that has it.

    Above, another user's file does not count: it could send the value of an environment variable
    to any address.
    """
    here = folder / CONFIG_NAME
    for above in () if here.exists() else folder.absolute().parents:
        path = above / CONFIG_NAME
        with contextlib.suppress(OSError):
            if path.stat().st_uid in (0, os.getuid()):
                return path
    return here


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of dgrec.toml (`config_file`); nothing if there is no such file.

    Raises:
        ConfigError: The file is not TOML.
    """
    path = config_file(folder)
    try:
        return tomllib.loads(read_small_text(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    except ValueError as error:  # not text, or not TOML
        raise ConfigError(f"{path}: {error}") from None


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


def config_path(config: Path, text: str) -> Path:
    """Return the path that a value of dgrec.toml names: relative ones start beside the file.

    Args:
        config: The file (`config_file`), which may be in a folder above.
        text: The value, with ``${NAME}`` filled in.
    """
    # Unlike Path.expanduser, it leaves ~name where there is no such user.
    return config.parent / os.path.expanduser(text)  # noqa: PTH111


def environment_secret(name: str) -> str:
    """Return a secret from the environment: ``NAME``, or the content of the file in ``NAME_FILE``.

    No message shows it from now on. "" if there is none.

    Raises:
        ConfigError: The file cannot be read, or is empty.
    """
    if secret := os.environ.get(name, ""):
        remember_secret(secret)
        return secret
    file = os.environ.get(f"{name}_FILE", "")
    return file_secret(Path(file), f"{name}_FILE") if file else ""


def file_secret(path: Path, option: str) -> str:
    """Return the secret that a file holds, without its line end.

    Args:
        option: The option or variable that names the file, for messages.

    Raises:
        ConfigError: It cannot be read, or holds none.
    """
    try:
        secret = read_small_text(path, _LONGEST_SECRET).rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"{option}: {path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{option}: {path}: {error}") from None
    if not secret:
        raise ConfigError(f"{option}: {path}: is empty")
    if "\n" in secret or "\0" in secret:
        raise ConfigError(f"{option}: {path}: has more than one line")
    remember_secret(secret)
    return secret
