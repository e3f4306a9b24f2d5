"""`pyarrow.compute`, which is imported when it is first used.

Importing it takes a twentieth of the time of a short command, and most commands do not need it.
"""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    value = globals()[name] = getattr(importlib.import_module("pyarrow.compute"), name)
    return value
