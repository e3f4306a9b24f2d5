"""Keeps passwords and tokens out of everything that is printed, recorded or used as a name.

`remember` is called with every address before it is parsed. From then on `redact_text` removes the
address and its secret parts from any text, such as the error of a library that split it at a
special character in the password.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

from dgrec.paths import SESSION_SUFFIXES

__all__ = [
    "SCHEME",
    "forget",
    "percent_encoded",
    "redact",
    "redact_remembered",
    "redact_text",
    "remember",
    "remember_secret",
    "without_secrets",
]

#: The beginning of an address.
SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_NO_ADDRESS = re.compile(r"file://|[a-zA-Z]:[\\/]")
#: A recorded session, which options for degirum_tools may follow: `walk.parquet?pace=fast`.
_SESSION = re.compile(rf"(?!//)[^?#@:]+(?:{'|'.join(map(re.escape, SESSION_SUFFIXES))})(?:\?|\Z)")
#: The parts after a login: host, port, path, query, fragment.
_REST = re.compile(
    r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s/?#\\:@\[\]]*)(?P<port>:\d{1,5})?"
    r"(?P<path>[/\\][^?#]*)?(?:\?(?P<query>[^#]*))?(?:#.*)?\Z",
    re.DOTALL,
)
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}|\[.*\]|localhost|[\w-]+(\.[\w-]+)+")
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d{1,5}\Z")

# Some cameras want their password in the path (`/user=a_password=b_channel=1`), and GStreamer
# as a property (`user-pw=b`).
# Bounded: a hostile name of a megabyte must not take a minute.
_KEY = r"(?:pass\w{0,30}?|pwd|pw|token|secret|auth|\w{0,30}key|sig(?:nature)?)"
_SECRET_ITEM = re.compile(rf"(?i)({_KEY}=)(?:(?!_[a-z]+=)[^/&;?\s])+")
_HEADER = re.compile(
    r"(?i)(authorization\s*[:=]\s*)[^\r\n]+|(\b(?:basic|bearer|digest)\s+)(?=\S*[\d=])\S{4,}"
)
# Up to the next blank, since a password may hold quotes and brackets. `redact_text` keeps the
# punctuation after a URL in a sentence.
_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]{0,30}://\S+")
_CLOSING = "'\"<>()[]{},;.!:"

#: Addresses that have options of dgrec in their query, and those options that are not secrets.
_WITH_OPTIONS = ("mqtt://", "mqtts://", "ws://", "sse://")
_OPTIONS = ("qos", "retain", "client_id", "ca", "cert", "origin")

#: Remembered addresses with their redacted forms, and secret parts of them.
_addresses: dict[str, str] = {}
_secrets: set[str] = set()
#: Shorter secrets would be found in ordinary words.
_SHORTEST = 4
#: Longer texts are not addresses.
_LONGEST = 10_000
#: The most places in which a login may be split.
_MOST_CUTS = 60


def redact(url: str) -> str:
    """Return ``url`` without user, password, query values and fragment.

    The path stays, since it often names the camera; a query keeps its keys (``?token=***``), which
    distinguish two streams of one device, and for a broker also dgrec's options (``?qos=0``).
    A password that is not percent-encoded may hold any character: if its end is unclear, only the
    scheme is kept.
    """
    if _NO_ADDRESS.match(url):
        return url
    scheme = SCHEME.match(url)
    if scheme is None:
        return _redact_without_scheme(url)
    login, at, rest = url[scheme.end() :].rpartition("@")
    taken = None if at and not _is_login(login) else _REST.match(rest)
    if taken is None:
        return f"{scheme.group().lower()}***"
    host, port, path = taken["host"].lower(), taken["port"] or "", taken["path"] or ""
    path = _SECRET_ITEM.sub(r"\1***", path)
    query = "" if taken["query"] is None else f"?{_redact_query(taken['query'], scheme.group())}"
    return f"{scheme.group().lower()}{'***@' if at else ''}{host}{port}{path}{query}".rstrip("?")


def _is_login(text: str) -> bool:
    """Return whether an ``@`` after ``text`` surely ends a login.

    In a query, a fragment or after ``password=`` it may be part of a secret.
    """
    begin = _before_path(text)
    if begin != text and (":" not in begin or _HOST_AND_PORT.match(begin)):
        return False
    return "=" not in text and not SCHEME.search(text)


def _before_path(text: str) -> str:
    return re.split(r"[/?#\\]", text, maxsplit=1)[0]


def _redact_without_scheme(url: str) -> str:
    if _SESSION.match(url) and "@" not in url:
        return _SECRET_ITEM.sub(r"\1***", url)
    # Not a URL, or a mistyped one: `admin:password@host/stream`, `rtsp:/admin:password@host`.
    head, at, tail = url.rpartition("@")
    is_login = at and (":" in head or head.startswith("//"))
    path, mark, query = (f"***@{tail}" if is_login else url).partition("?")
    return _SECRET_ITEM.sub(r"\1***", path) + (f"?{_redact_query(query)}" if mark else "")


def _redact_query(query: str, scheme: str = "") -> str:
    items = [item.partition("=") for item in query.split("&") if item]
    # Without "=" the whole item may be the token. So may a key that holds another address.
    public = _OPTIONS if scheme in _WITH_OPTIONS else ()
    return "&".join(
        f"{key}={value if key in public else '***'}"
        if equals and re.fullmatch(r"[\w.-]+", key)
        else "***"
        for key, equals, value in items
    )


def redact_text(text: str) -> str:
    """Return ``text``, such as an error of a library, without logins, tokens and other secrets."""

    def replace(match: re.Match[str]) -> str:
        url = match.group()
        bare = url.rstrip(_CLOSING)
        return redact(bare) + url[len(bare) :]

    text = _HEADER.sub(r"\1\2***", redact_remembered(text))
    return _SECRET_ITEM.sub(r"\1***", _URL.sub(replace, text))


def redact_remembered(text: str) -> str:
    """Return ``text`` without the secrets of remembered addresses."""
    for address in sorted(_addresses, key=len, reverse=True):
        text = text.replace(address, _addresses[address])
    # All are found before any is replaced, since two may overlap.
    found = [span for secret in _secrets if secret in text for span in _spans(secret, text)]
    kept, end = [], 0
    for start, stop in sorted(found):
        if start >= end:
            kept += [text[end:start], "***"]
        end = max(end, stop)
    return "".join([*kept, text[end:]])


def without_secrets(value: Any) -> Any:
    """Return a value for JSON with `redact_remembered` applied to its texts, at any depth.

    A secret may be an ordinary word or a number. Cut out of JSON text, it would take keys along.
    """
    if isinstance(value, str):
        return redact_remembered(value)
    if isinstance(value, Mapping):
        return {key: without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return value


def _spans(part: str, text: str) -> Iterator[tuple[int, int]]:
    at = text.find(part)
    while at >= 0:
        yield at, at + len(part)
        at = text.find(part, at + 1)


def remember(address: str) -> None:
    """Let `redact_text` remove the secrets of ``address`` from every text from now on."""
    if len(address) > _LONGEST:
        return
    redacted = redact(address)
    if redacted == address or address in _addresses:
        return
    for form in _forms(address):
        _addresses[form] = redacted
        _secrets.update(_secret_parts(form, redacted))


def forget(address: str) -> None:
    """Let texts hold an address that was remembered: it belongs in the answer."""
    for form in _forms(address):
        _secrets.difference_update(_secret_parts(form, _addresses.pop(form, "")))
    for form, redacted in _addresses.items():  # others may have the same parts
        _secrets.update(_secret_parts(form, redacted))


def _forms(address: str) -> set[str]:
    return {address, percent_encoded(address), unquote(address)}


def remember_secret(secret: str) -> None:
    """Let `redact_text` remove a password or token from every text from now on."""
    if _SHORTEST <= len(secret) <= _LONGEST:
        _secrets.update({secret, quote(secret, safe="", errors="surrogateescape")})


def _secret_parts(address: str, redacted: str) -> set[str]:
    """Return the login of an address, each part that it may wrongly be split into, and the values
    of its query, without those that are in its redacted form.
    """
    scheme = SCHEME.match(address)
    rest = address[scheme.end() :] if scheme else address
    login = rest.rpartition("@")[0]
    cuts = {0, len(login)}
    for match in re.finditer(r"[@/?#:\\\s\[\]'\"&;%]", login):
        cuts |= {match.start(), match.end()}
    found = {login[i:j] for i, j in itertools.combinations(sorted(cuts)[:_MOST_CUTS], 2)}
    for item in re.split(r"[?&#;]", rest)[1:]:
        found |= {item, item.partition("=")[2]}
    for match in _SECRET_ITEM.finditer(rest):
        found.add(match.group().partition("=")[2])
    found |= {unquote(part) for part in found}
    return {part for part in found if len(part) >= _SHORTEST and part not in redacted}


def percent_encoded(url: str) -> str:
    """Return ``url`` with its login percent-encoded, so that special characters do not end it.

    Characters that are encoded already stay. Which of several ``@`` ends the login is a guess: the
    last one, unless an address follows an earlier one, and none follows the last.
    """
    scheme = SCHEME.match(url)
    if scheme is None:
        return url
    login, at, rest = url[scheme.end() :].rpartition("@")
    begin = _before_path(login)
    if not at or (_is_address(begin.rpartition("@")[2]) and not _is_address(rest)):
        return url
    has_host = ":" not in begin or (_HOST_AND_PORT.match(begin) and not _is_address(rest))
    if begin != login and has_host:
        return url  # the "@" is in a path or a query
    user, colon, password = login.partition(":")
    return f"{scheme.group()}{_encoded(user)}{colon}{_encoded(password)}@{rest}"


def _is_address(text: str) -> bool:
    """Return whether ``text`` probably begins with a host, and maybe a port."""
    return re.match(rf"(?:{_ADDRESS.pattern})(?::\d+)?(?:[/?#\\]|\Z)", text) is not None


def _encoded(text: str) -> str:
    # Encoded characters stay, and so do those that a login may have (RFC 3986).
    parts = re.split(r"(%[0-9a-fA-F]{2})", text)
    parts[::2] = [quote(part, safe="!$&'()*+,;=-._~") for part in parts[::2]]
    return "".join(parts)
