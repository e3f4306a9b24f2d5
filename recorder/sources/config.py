"""The sources that ``dgrec.toml`` gives names to."""

from __future__ import annotations

from pathlib import Path

from dgrec.config import config_file, read_config
from dgrec.errors import ConfigError

_LONGEST_NAME = 100


def named_sources(folder: Path) -> dict[str, str]:
    """Return the sources that dgrec.toml names, in a folder or the nearest one above that has it.

    Raises:
        ConfigError: The file is not TOML, or not of this form.
    """
    path = config_file(folder)
    sources = read_config(folder).get("sources", {})
    if not isinstance(sources, dict):
        raise ConfigError(f"{path}: [sources] must be a table of names")
    return {name: _target(path, name, value) for name, value in sources.items()}


def _target(path: Path, name: str, value: object) -> str:
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        raise ConfigError(
            f"{path}: {name[:20]!r}... is not a valid source name; expected 1 to "
            f"{_LONGEST_NAME} printable characters"
        )
    if not isinstance(value, str) or not value:
        raise ConfigError(f'{path}: source {name!r} must be a text such as "rtsp://..."')
    return value
