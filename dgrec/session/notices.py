"""The messages that notifiers of degirum_tools added to results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dgrec.format import DecodeError, json_values

__all__ = ["find_notices"]

#: Under this key results have them.
_KEY = "notifications"


def find_notices(
    batches: Iterable[pa.RecordBatch],
) -> tuple[np.ndarray[Any, Any], list[dict[str, str]]]:
    """Return when there were messages (microseconds since 1970, in order), and these by name.

    Args:
        batches: Rows with ``completed_at`` and ``attributes``. What is not as dgrec writes it is
            left out.
    """
    found: list[tuple[int, dict[str, str]]] = []
    for batch in batches:
        texts = batch.column("attributes")
        is_there = pc.fill_null(pc.match_substring(texts, f'"{_KEY}"'), False)
        stamps = batch.column("completed_at").cast(pa.int64()).filter(is_there).to_pylist()
        for stamp, text in zip(stamps, texts.filter(is_there).to_pylist(), strict=True):
            if stamp is not None and (messages := _messages(text)):
                found.append((stamp, messages))
    found.sort(key=lambda item: item[0])
    return np.array([stamp for stamp, _ in found], np.int64), [each for _, each in found]


def _messages(text: str) -> dict[str, str]:
    try:
        attributes = json_values.loads(text)
    except DecodeError:
        return {}
    messages = attributes.get(_KEY) if isinstance(attributes, dict) else None
    if not isinstance(messages, dict):
        return {}
    return {
        name: message
        for name, message in messages.items()
        if isinstance(name, str) and isinstance(message, str)
    }
