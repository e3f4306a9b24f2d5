"""Names of category ids, as the user gives them beside a file."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from dgrec.errors import ConfigError, ImportFileError
from dgrec.files import is_file, read_small_text
from dgrec.imports.frames import Category, Images
from dgrec.imports.text import InvalidError, JsonReader, open_binary

_MOST: Final = 100_000


class GivenLabels(NamedTuple):
    """Names by a model's category ids; of COCO annotations also their own, and the pictures."""

    names: Mapping[int, str]
    categories: Mapping[int, Category] = MappingProxyType({})
    images: Images = MappingProxyType({})


def read_labels(text: str) -> GivenLabels:
    """Return the names of categories.

    Args:
        text: ``person,car`` (ids from 0), a text file with a name in each line, or a file of COCO
            annotations, whose pictures then say which frame is meant.

    Raises:
        ConfigError: The list is empty, or has too many names.
        ImportFileError: The file cannot be read.
    """
    path = Path(text)
    if path.suffix.lower() == ".json":
        from dgrec.imports.formats import coco

        with open_binary(path) as file:
            try:
                categories, images = coco.read_labels(JsonReader(file))
            except InvalidError as error:
                raise ImportFileError(f"{path}: {error}") from None
        names_of = {each.number: each.name for each in categories.values()}
        return GivenLabels(names_of, categories, images)
    names = [name.strip() for name in text.split(",")]
    if path.suffix or is_file(path):
        try:
            names = read_small_text(path).splitlines()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENAMETOOLONG):
                raise ImportFileError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ImportFileError(f"{path}: {error}") from None
    if not any(names) or len(names) > _MOST:
        raise ConfigError(f"--labels {text[:60]}: expected names, such as person,car, or a file")
    return GivenLabels({number: name for number, name in enumerate(names) if name})
