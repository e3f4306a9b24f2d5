"""A message for brokers, web servers and clients."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Message"]


class Message(NamedTuple):
    """A message.

    Args:
        key: Names this message and no other.
        event: Its kind; "" is the usual one.
        of: The subject whose state it is: clients that come late get the last message of each.
        ends: Whether the subject has ended, so that they do not get it.
    """

    key: str
    text: bytes
    event: str = ""
    of: str = ""
    ends: bool = False
