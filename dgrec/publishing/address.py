"""Targets of ``--publish``, as they are written: ``-``, a file, ``mqtt://HOST/TOPIC``, a URL."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from dgrec.credentials import redact, remember
from dgrec.errors import ConfigError
from dgrec.publishing.homeassistant import Device
from dgrec.publishing.logins import Login, login_of
from dgrec.publishing.target import Target

#: The target that is standard output.
STDOUT: Final = "-"

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883, "http": 80, "https": 443, "ws": 0, "sse": 0}
#: Schemes that are served here.
_SERVED: Final = ("ws", "sse")
#: Names that a topic may contain; those of the recording are filled in.
_NAMES: Final = ("source", "session")
#: What `redact` leaves of a login and of a query, such as in the command that dgrec proposes.
_REDACTED: Final = re.compile(r"\*\*\*@|[?&=]\*\*\*")
#: Wildcards, and characters for which a broker ends the connection (MQTT, section 1.5.4): control
#: characters, and code points that are not characters.
_NOT_IN_TOPICS: Final = re.compile(
    "[+#\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufdd0-\\ufdef\\ufffe\\uffff]"
)
#: Options after an address, by its scheme.
_OPTIONS: Final = {
    "mqtt": ("qos", "retain", "client_id"),
    "mqtts": ("qos", "retain", "client_id", "ca", "cert", "key"),
    "http": (),
    "https": (),
    "ws": ("origin", "cert", "key"),
    "sse": ("origin", "cert", "key"),
}


@dataclass(frozen=True)
class TargetAddress:
    """The address that messages go to.

    Args:
        scheme: "mqtt", "mqtts", "http", "https", "ws", "sse"; "" for a file or standard output.
        given: As it was written, without secrets.
        path: The topic of a broker; the name of a file; the whole URL of a web server; for what is
            served here, "/ws" or "/sse", if no other is given.
        token: For a web server.
    """

    scheme: str
    given: str
    path: str = field(repr=False)
    host: str = ""
    port: int = 0
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    options: Mapping[str, str] | None = None

    @property
    def is_served(self) -> bool:
        """True if clients connect to dgrec for the messages."""
        return self.scheme in _SERVED

    def option(self, name: str, default: str = "") -> str:
        return (self.options or {}).get(name, default)


def parse_target(text: str) -> TargetAddress:
    """Return the target that a text names.

    Raises:
        ConfigError: It does not name one; the message says why.
    """
    if not text:
        raise ConfigError("--publish: the target is empty; - stands for standard output")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return TargetAddress("", text, text)
    scheme = scheme.lower()  # MQTT:// is the same
    text = f"{scheme}://{rest}"
    is_web = scheme.startswith("http")
    address, _, query = text.partition("?")
    # Options are not secrets, and may be words that messages contain.
    remember(text if is_web or "@" in query else address)
    shown = redact(text)
    if scheme not in _PORTS:
        known = ", ".join(f"{name}://" for name in _PORTS)
        raise ConfigError(f"--publish {shown}: targets are -, a file, {known}")
    if _REDACTED.search(text):
        raise ConfigError(f"--publish {shown}: write what *** stands for")
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        port = _PORTS[scheme] if parts.port is None else parts.port
        if is_web:
            _check_url(text)
    except ValueError as error:
        raise ConfigError(f"--publish {shown}: is not an address: {error}") from None
    if not host:
        raise ConfigError(f"--publish {shown}: names no host")
    if not port and scheme not in _SERVED:
        raise ConfigError(f"--publish {shown}: 0 is not a port")
    if "#" in text:  # what follows is not sent to any server
        raise ConfigError(f"--publish {shown}: an address has no #; %23 stands for one in a name")
    options = {} if is_web else dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS[scheme]:
            known = ", ".join(_OPTIONS[scheme])
            raise ConfigError(f"--publish {shown}: {name!r} is not an option; expected {known}")
    path = text if is_web else unquote(parts.path.removeprefix("/"))
    if scheme in _SERVED:
        path = f"/{path or scheme}"
        _check_served(shown, parts.username, port, path)
        if "key" in options and not options.get("cert"):
            raise ConfigError(f"--publish {shown}: key belongs to cert: ws://HOST:PORT?cert=FILE")
    elif not is_web:
        _check_broker(shown, path, options)
    login = Login() if scheme in _SERVED else login_of(host, port)
    return TargetAddress(
        scheme,
        shown,
        path,
        host,
        port,
        unquote(parts.username or "") or login.user,
        unquote(parts.password or "") or login.password,
        login.token,
        options,
    )


def _check_url(text: str) -> None:
    import urllib3

    try:
        urllib3.util.parse_url(text)
    except urllib3.exceptions.LocationParseError:  # its text may contain a password
        raise ValueError("a part of it cannot be read") from None


def distinct_names(names: Iterable[str]) -> list[str]:
    """Return names of targets, no two of them the same.

    Two web servers may differ only in their logins or queries, which are not shown: the second
    one is ``NAME#2``.
    """
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return distinct


def missing_command(session: str, name: str) -> str:
    """Return the command that sends a target the messages of a session that it did not get."""
    is_redacted = _REDACTED.search(name) is not None
    given, mark, _ = name.partition("#") if is_redacted else (name, "", "")
    command = f"dgrec publish {shlex.quote(session)} {shlex.quote(given)} --missing"
    if not is_redacted:
        return command
    return f"{command} (with what *** stands for{', all that look the same' if mark else ''})"


def check_discovery(addresses: Sequence[TargetAddress]) -> None:
    """Raise `ConfigError` unless a target is a broker (``--mqtt-discovery``)."""
    if not any(address.scheme.startswith("mqtt") for address in addresses):
        raise ConfigError("--mqtt-discovery needs a broker: --publish mqtt://HOST/TOPIC")


def _check_broker(shown: str, topic: str, options: Mapping[str, str]) -> None:
    if not topic:
        raise ConfigError(f"--publish {shown}: names no topic; expected mqtt://HOST/TOPIC")
    if _NOT_IN_TOPICS.search(topic):
        raise ConfigError(
            f"--publish {shown}: a topic to publish to has no +, no # and no control characters"
        )
    _check_names(shown, "topic", topic)
    if options.get("qos", "1") not in ("0", "1", "2"):
        raise ConfigError(f"--publish {shown}: qos is 0, 1 or 2")
    if options.get("retain", "0") not in ("0", "1"):
        raise ConfigError(f"--publish {shown}: retain is 0 or 1")


def _check_served(shown: str, user: str | None, port: int, path: str) -> None:
    if not port:
        raise ConfigError(f"--publish {shown}: names no port to serve; expected ws://HOST:PORT")
    if user is not None:
        raise ConfigError(f"--publish {shown}: clients need no login; DGREC_TOKEN sets a token")
    _check_names(shown, "path", path)


def _topic(address: TargetAddress, names: Mapping[str, str]) -> str:
    """Return a topic with its names filled in, without characters that a topic cannot have."""
    return filled_path(
        address, {name: _NOT_IN_TOPICS.sub("_", value) for name, value in names.items()}
    )


def filled_path(address: TargetAddress, names: Mapping[str, str]) -> str:
    """Return a topic or path with its names filled in.

    Raises:
        ConfigError: One of them is not given.
    """
    try:
        return address.path.format(**names)
    except KeyError as error:
        text = f"what {{{error.args[0]}}} stands for is not given"
        raise ConfigError(f"--publish {address.given}: {text}") from None


def _check_names(shown: str, what: str, text: str) -> None:
    try:
        found = [part[1:] for part in Formatter().parse(text) if part[1] is not None]
    except ValueError:
        found = [("", "", None)]
    if any(name not in _NAMES or how or conversion for name, how, conversion in found):
        known = ", ".join(f"{{{name}}}" for name in _NAMES)
        raise ConfigError(f"--publish {shown}: names in a {what} are {known}")


def open_target(
    address: TargetAddress,
    names: Mapping[str, str],
    *,
    waits: bool = False,
    device: Device | None = None,
) -> Target:
    """Return a target that takes messages; a server need not be reachable yet.

    Args:
        names: The texts that names in a topic or path become: ``source``, ``session``.
        waits: Wait for slow clients of what is served here.
        device: The recording, as a broker describes it to Home Assistant.

    Raises:
        OutputError: A file cannot be opened, or an address cannot be served.
        ConfigError: A library or a name is missing, or an option cannot be used.
    """
    if not address.scheme:
        from dgrec.publishing.lines import Lines

        return Lines(address.path)
    if address.scheme.startswith("mqtt"):
        from dgrec.publishing.mqtt import Broker

        return Broker(address, _topic(address, names), device)
    if address.is_served:
        from dgrec.publishing.served import ServedTarget

        return ServedTarget(address, names, waits=waits)
    from dgrec.publishing.http import WebServer

    return WebServer(address)
