"""`pyarrow.compute`, which is imported when something of it is first used.

Importing it takes a twentieth of the time of a short command, and most of them do without.
"""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    value = globals()[name] = getattr(importlib.import_module("pyarrow.compute"), name)
    return value
