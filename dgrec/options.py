"""Types of options that the commands of both rooms share."""

from __future__ import annotations

import os
from typing import Any

import click

__all__ = ["NamedPath"]


class NamedPath(click.Path):
    """A path that is not empty: that would be a variable that is not set, not this folder."""

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        if not os.fspath(value):
            self.fail("an empty name names no file", param, ctx)
        if "\0" in os.fspath(value):
            self.fail("a name cannot hold a NUL", param, ctx)
        return super().convert(value, param, ctx)
