"""Libraries of other tools, which are installed when a format needs them."""

from __future__ import annotations

import importlib
from typing import Any

from dgrec.errors import ConfigError


def import_library(module: str, form: str, extra: str = "exports") -> Any:
    """Import a module of another tool's library.

    Args:
        module: Its name.
        form: The format that needs it.
        extra: The extra of dgrec that installs it.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{form}: a library is missing ({error}); install it with pip install 'dgrec[{extra}]'"
        ) from None
