"""Untrusted text in XML."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

#: Characters that XML 1.0 cannot hold.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text(value: object) -> str:
    """Return a value as the content of an element."""
    # Readers turn a carriage return that is not escaped into a line feed.
    return escape(_NOT_XML.sub("\ufffd", str(value)), {"\r": "&#13;"})


def quoted(value: object) -> str:
    """Return a value as the value of an attribute, in quotes."""
    return quoteattr(_NOT_XML.sub("\ufffd", str(value)))
