"""Rows to text and files: the one place that writes results, in every format.

=========  ==================================================================================
table      for people: aligned, a row below another where the terminal is too narrow
markdown   for people: a GitHub table
csv        RFC 4180 with a header; nothing for null, ``""`` for an empty text
json       one array of objects
jsonl      one object a line
parquet    Arrow types as they are
=========  ==================================================================================

Stamps are ISO 8601 and end in ``Z``; lists, structs and maps are JSON text outside of JSON; bytes
are Base64; NaN and the infinities, which JSON does not have, are null there. Tables show six
decimals, every other format all digits.

===========  ================================================================================
destination  where a result goes
values       a value as text
tables       texts in columns
rows         rows as they come, in every format
sections     small tables and notes
===========  ================================================================================
"""

from dgrec.replay.output.destination import Destination, open_output
from dgrec.replay.output.rows import QueryResult, csv_line, write_rows
from dgrec.replay.output.sections import Section, write_report
from dgrec.replay.output.values import cell_text, json_text

__all__ = [
    "Destination",
    "QueryResult",
    "Section",
    "cell_text",
    "csv_line",
    "json_text",
    "open_output",
    "write_report",
    "write_rows",
]
