"""`Registry`: classes by name, from the modules of a package."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Self, TypeVar

__all__ = ["Registry"]

_T = TypeVar("_T")


class Registry(dict[str, type[_T]]):
    """Classes by name. They register themselves when their modules are imported, by `load`.

    Args:
        package: The package with these modules.
    """

    def __init__(self, package: str) -> None:
        super().__init__()
        self._package = package

    def load(self) -> Self:
        """Import all modules of the package, and return this registry."""
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        return self
