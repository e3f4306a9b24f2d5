"""Logins of targets: from ``dgrec.toml``, the environment, or files that these name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dgrec.config import (
    config_file,
    config_path,
    environment_secret,
    expand,
    file_secret,
    read_config,
)
from dgrec.credentials import remember_secret
from dgrec.errors import ConfigError

_TABLE: Final = "publish"
_KEYS: Final = ("user", "password", "password_file", "token", "token_file")


@dataclass(frozen=True)
class Login:
    """A login for a target; none of it is shown."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


def login_of(host: str, port: int) -> Login:
    """Return the login for a server.

    It is from ``[publish."HOST:PORT"]`` or ``[publish."HOST"]`` in ``dgrec.toml``, or else from
    DGREC_PUBLISH_USER, DGREC_PUBLISH_PASSWORD and DGREC_PUBLISH_TOKEN (or the files that
    DGREC_PUBLISH_PASSWORD_FILE and DGREC_PUBLISH_TOKEN_FILE name).

    Raises:
        ConfigError: ``dgrec.toml`` or one of the files cannot be used.
    """
    folder = Path.cwd()
    path = config_file(folder)
    table = read_config(folder).get(_TABLE, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: [{_TABLE}] must be a table of hosts")
    for name, entry in table.items():
        _check_is_host(path, name, entry)
    entries = {name.lower(): entry for name, entry in table.items()}  # as a host is written in URLs
    for name in (f"{host}:{port}".lower(), host.lower()):
        if name in entries:
            return _login(path, name, entries[name])
    return Login(
        os.environ.get("DGREC_PUBLISH_USER", ""),
        environment_secret("DGREC_PUBLISH_PASSWORD"),
        environment_secret("DGREC_PUBLISH_TOKEN"),
    )


def _check_is_host(path: Path, name: str, entry: Any) -> None:
    """Refuse an entry that is no host: the one that is meant would get another's login."""
    if not isinstance(entry, Mapping):
        raise ConfigError(f'{path}: [{_TABLE}."{name}"] must be a table, with {", ".join(_KEYS)}')
    host, table = name, entry
    while inner := [key for key in table if isinstance(table[key], Mapping) and key not in _KEYS]:
        host, table = f"{host}.{inner[0]}", table[inner[0]]  # TOML's dots: a table in a table
    if host != name:
        raise ConfigError(
            f'{path}: [{_TABLE}.{host}]: a host with dots stands in quotes: [{_TABLE}."{host}"]'
        )


def _login(path: Path, host: str, entry: Mapping[str, Any]) -> Login:
    where = f'{path}: [{_TABLE}."{host}"]'
    for key, value in entry.items():
        if key not in _KEYS:
            raise ConfigError(f"{where}: {key!r} is not known; expected {', '.join(_KEYS)}")
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{where}: {key} must be a text")
    return Login(
        expand(entry.get("user", "")),
        *(_secret(where, path, entry, key) for key in ("password", "token")),
    )


def _secret(where: str, config: Path, entry: Mapping[str, str], key: str) -> str:
    file = f"{key}_file"
    if key in entry and file in entry:
        raise ConfigError(f"{where}: {key} and {file} contradict each other")
    if file in entry:
        return file_secret(config_path(config, expand(entry[file])), f"{where}: {file}")
    secret = expand(entry.get(key, ""))
    remember_secret(secret)
    return secret
