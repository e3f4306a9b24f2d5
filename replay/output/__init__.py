"""Writes results as text and files, in every format.

=========  ==================================================================================
table      for people: aligned; a block for each row if the terminal is too narrow
markdown   for people: a GitHub table
csv        RFC 4180 with a header; null is empty, an empty text is ``""``
json       one array of objects
jsonl      one object a line
parquet    Arrow types as they are
=========  ==================================================================================

Stamps are ISO 8601 and end in ``Z``. Lists, structs and maps are JSON, as text in other formats.
Bytes are Base64. NaN and the infinities are null in JSON, which lacks them. Tables show six
decimals, other formats all digits.

===========  ================================================================================
destination  where a result goes
values       values as text
tables       texts in columns
rows         writes rows as they are computed
sections     writes small tables and notes
===========  ================================================================================
"""

from dgrec.replay.output.destination import Destination, open_output
from dgrec.replay.output.rows import QueryResult, csv_line, write_rows
from dgrec.replay.output.sections import Section, write_report
from dgrec.replay.output.values import cell_text, is_numeric, json_text, rows_of

__all__ = [
    "Destination",
    "QueryResult",
    "Section",
    "cell_text",
    "csv_line",
    "is_numeric",
    "json_text",
    "open_output",
    "rows_of",
    "write_report",
    "write_rows",
]
