"""Asks a network camera why it could not be opened, which FFmpeg does not report."""

from __future__ import annotations

import base64
import re
import socket
import ssl
from http import HTTPStatus
from urllib.parse import SplitResult, unquote, urlsplit

from dgrec.video import quoted

__all__ = ["ask"]

_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}
_STATUS = re.compile(rb"(?:HTTP|RTSP)/\d\.\d (\d{3})\b")
_ADVICE = {
    401: "check the user name and the password",
    403: "this login may not see the stream",
    404: "check the path in the address",
    503: "the camera is not ready, or has too many viewers",
}


def ask(url: str, timeout_s: float = 3.0) -> str | None:
    """Return why ``url`` cannot be opened, without anything secret; None if unknown."""
    try:
        parts = urlsplit(quoted(url))
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return "this is not a valid address"
    if not host or parts.scheme not in _PORTS or port is None:
        return None
    try:
        reply = _request(parts, host, port, timeout_s)
    except socket.gaierror:
        return f"unknown host {host}"
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except ConnectionRefusedError:
        return "connection refused"
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()
    status = _STATUS.match(reply)
    if status is None:
        return (
            "the host answered, but not like a camera"
            if reply
            else "the host closed the connection without an answer"
        )
    code = int(status.group(1))
    if 200 <= code < 300:
        return "the camera answered, but sent no video that can be read"
    try:
        answer = f"it answers {code} {HTTPStatus(code).phrase}"  # not its own words: untrusted
    except ValueError:
        answer = f"it answers {code}"
    return f"{answer}; {_ADVICE[code]}" if code in _ADVICE else answer


def _request(parts: SplitResult, host: str, port: int, timeout_s: float) -> bytes:
    where = f"[{host}]" if ":" in host else host
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme.startswith("rtsp"):
        lines = [f"DESCRIBE {parts.scheme}://{where}:{port}{path} RTSP/1.0", "CSeq: 1"]
    else:
        lines = [f"GET {path} HTTP/1.1", f"Host: {where}:{port}", "Connection: close"]
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines.append(f"Authorization: Basic {base64.b64encode(login.encode()).decode()}")
    with socket.create_connection((host, port), timeout_s) as plain:
        connection = plain
        if parts.scheme in ("https", "rtsps"):
            connection = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        connection.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        return connection.recv(256)
