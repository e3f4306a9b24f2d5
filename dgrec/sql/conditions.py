"""Conditions on frames, as ``--where`` takes them: SQL, with ``count`` and ``best`` of alerts.

    count('car') >= 2          at least two cars
    count('car', 0.5) = 0      no car with a score of 0.5 or more
    count() > 10               more than ten detections
    best('car') < 0.4          the best score of a car

They are written out as DuckDB's functions on the column ``detections``; the rest is left as it is.
"""

from __future__ import annotations

import re
from typing import Final

#: The example in errors about a condition on frames.
EXAMPLE: Final = 'such as "latency_ms > 100" or "count(\'car\') >= 2"'

#: Texts, quoted names and comments, in which nothing is replaced; or a call.
_TOKEN: Final = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/
    | (?<![\w.])(?P<name>count|best)\s*\(\s*
      (?:(?P<label>'(?:[^']|'')*')\s*(?:,\s*(?P<score>\d+(?:\.\d*)?|\.\d+)\s*)?)?\)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def frame_condition(text: str) -> str:
    """Return a condition on frames as DuckDB's SQL over the columns of the view ``frames``."""
    return _TOKEN.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    name, label, score = match["name"], match["label"], match["score"]
    if name is None:
        return match.group()
    wanted = "true" if label is None else f"d.label = {label}"
    if score is not None:
        wanted += f" AND d.score >= {score}"
    if score is not None or name.lower() == "best":
        wanted += " AND NOT isnan(d.score)"  # for DuckDB the largest number
    found = f"list_filter(detections, lambda d: {wanted})"
    if name.lower() == "count":
        return f"coalesce(len({found}), 0)"
    return f"list_max(list_transform({found}, lambda d: d.score))"
