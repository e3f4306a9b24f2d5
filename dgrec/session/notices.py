"""The messages that notifiers of degirum_tools added to results."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from operator import itemgetter
from typing import TYPE_CHECKING

import pyarrow as pa

from dgrec import compute as pc
from dgrec.format import DecodeError, json_values

if TYPE_CHECKING:
    from dgrec.analyzers import Notice

#: The key of the messages in results.
_KEY = "notifications"


class Notices:
    """The messages of a session, by their time.

    Args:
        batches: Rows with ``completed_at`` and ``attributes``. What is not as dgrec writes it is
            left out.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        found: list[tuple[int, dict[str, str]]] = []
        for batch in batches:
            texts = batch.column("attributes")
            is_there = pc.fill_null(pc.match_substring(texts, f'"{_KEY}"'), False)
            stamps = batch.column("completed_at").cast(pa.int64()).filter(is_there).to_pylist()
            for stamp, text in zip(stamps, texts.filter(is_there).to_pylist(), strict=True):
                if stamp is not None and (messages := _messages(text)):
                    found.append((stamp, messages))
        self._found = sorted(found, key=lambda item: item[0])

    def until(self, completed_ns: int) -> dict[str, Notice]:
        """Return the last message of each notifier up to a time (nanoseconds since 1970)."""
        from dgrec.analyzers import Notice

        now_us = completed_ns // 1000
        last: dict[str, Notice] = {}
        for stamp, messages in self._found[: bisect_right(self._found, now_us, key=itemgetter(0))]:
            last |= {name: Notice(text, (now_us - stamp) / 1e6) for name, text in messages.items()}
        return last


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
