"""Access points of H.264 and HEVC, found in the packets themselves."""

from __future__ import annotations

import itertools


def is_random_access_point(
    codec: str, data: bytes, nal_length_size: int | None, *, closed: bool = False
) -> bool:
    """Return whether decoding may begin at a key packet and be exact from its picture on.

    Some encoders mark I pictures as key although later pictures refer to earlier ones. In H.264
    only an IDR picture or an immediate, exact recovery point counts; in HEVC any IRAP.

    Args:
        codec: FFmpeg's name of the codec.
        data: The packet.
        nal_length_size: Bytes before each NAL unit that give its length; None for start codes.
        closed: Whether no later picture may need an earlier one, not even one that is shown first.
    """
    if codec not in ("h264", "hevc"):
        return True
    for unit in _nal_units(data, nal_length_size):
        if not unit:
            continue
        if codec == "hevc":
            kind = unit[0] >> 1 & 63
            if kind < 32:  # a picture: the first one decides
                return 19 <= kind <= 20 if closed else 16 <= kind <= 21
            continue
        kind = unit[0] & 31
        if kind == 5 or (kind == 6 and not closed and _is_exact_recovery_point(unit)):
            return True
        if kind == 1:
            return False
    return False


def _nal_units(data: bytes, nal_length_size: int | None) -> list[bytes]:
    if nal_length_size is None:
        return [unit.lstrip(b"\1") for unit in data.split(b"\0\0\1")[1:]]
    units = []
    at = 0
    while at + nal_length_size < len(data):
        length = int.from_bytes(data[at : at + nal_length_size], "big")
        at += nal_length_size
        units.append(data[at : at + min(length, 4096)])  # only the beginning is needed
        at += length
    return units


def _is_exact_recovery_point(unit: bytes) -> bool:
    """Return whether an H.264 SEI unit marks an immediate recovery point with an exact match."""
    data = iter(unit[1:])

    def number() -> int:
        """Read a number of SEI: bytes of 255 and a last one, which add up."""
        total = 0
        while (byte := next(data, 0)) == 255:
            total += 255
        return total + byte

    while True:
        kind, size = number(), number()
        payload = bytes(itertools.islice(data, size))
        if kind == 6:
            # ue(v) of 0 is one set bit; exact_match_flag is the next.
            return bool(payload) and payload[0] & 0xC0 == 0xC0
        if len(payload) < size or kind == size == 0:
            return False


def nal_length_size(codec: str, extradata: bytes) -> int | None:
    """Return how many bytes give the length of a NAL unit, from the codec's configuration."""
    if codec == "h264" and len(extradata) > 4 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 21 and extradata[0] == 1:
        return (extradata[21] & 3) + 1
    return None
