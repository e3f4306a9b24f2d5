"""`Registry`: classes by name, from the modules of a package."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Self, TypeVar

from dgrec.errors import ConfigError

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

    def register(self, found: type[_T]) -> None:
        """Add a class under its attribute ``name``; one that is defined again replaces itself.

        Raises:
            ConfigError: It has no name, or another class has it.
        """
        name = getattr(found, "name", None)
        if not isinstance(name, str) or not name:
            raise ConfigError(f"class {found.__qualname__}: has no name; add: name = 'counts'")
        other = self.get(name)
        if other is not None and _place_of(other) != _place_of(found):
            raise ConfigError(
                f"{_place_of(found)} and {_place_of(other)} have the same name, {name!r}: "
                f"give one of them another"
            )
        if "<locals>" not in found.__qualname__:  # else a function may make several
            for old in [key for key, each in self.items() if _place_of(each) == _place_of(found)]:
                del self[old]
        self[name] = found

    def load(self) -> Self:
        """Import all modules of the package, and return this registry."""
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        return self


def _place_of(found: type) -> str:
    return f"{found.__module__}.{found.__qualname__}"
