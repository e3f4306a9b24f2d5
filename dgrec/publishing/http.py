"""A target: a web server that takes a POST request for each message."""

from __future__ import annotations

import ssl
import threading
import time
from base64 import b64encode
from typing import Any, Final

from dgrec.errors import ConfigError, OutputError
from dgrec.message import Message
from dgrec.publishing.address import TargetAddress
from dgrec.publishing.target import Target

#: Seconds for a connection, and for an answer.
_CONNECT_S, _ANSWER_S = 5.0, 10.0
#: Seconds for reading the body of an answer.
_BODY_S: Final = 2.0
#: Seconds before another attempt: twice as many each time.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
#: Bytes: the rest of a longer answer is not read.
_LONGEST_ANSWER: Final = 1 << 16
#: Characters of a server's reason that are shown.
_LONGEST_REASON: Final = 200
#: Answers after which another attempt may succeed.
_TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class WebServer(Target):
    """Sends each message as a POST request, in order, until the server has taken it (2xx).

    A server that is away or overloaded is asked again, less and less often. The header
    ``Idempotency-Key`` is the same in each attempt, so that a server can tell a repetition.

    Raises:
        ConfigError: The login cannot be sent.
    """

    def __init__(self, address: TargetAddress) -> None:
        import urllib3

        super().__init__()
        self.name = address.given
        self._url = address.path
        self._is_closing = threading.Event()
        headers = {"Content-Type": "application/json", "User-Agent": "dgrec"}
        if login := _authorization(address):
            headers["Authorization"] = login
        self._pool = urllib3.PoolManager(
            headers=headers,
            retries=False,
            timeout=urllib3.Timeout(connect=_CONNECT_S, read=_ANSWER_S),
        )

    def send(self, message: Message) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            reason = self._attempt(message)
            if not reason:
                self._take(message.key)
                return
            self._report_wait(reason)
            if self._is_closing.wait(wait_s):
                raise OutputError(f"{self.name}: {reason}")
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    def give_up(self) -> None:
        self._is_closing.set()

    def close(self) -> None:
        self._is_closing.set()
        self._pool.clear()

    def _attempt(self, message: Message) -> str:
        """Send a message; return why it is to be tried again, or "".

        Raises:
            OutputError: The server refuses it.
        """
        import urllib3

        headers = {**self._pool.headers, "Idempotency-Key": message.key}
        try:
            answer: Any = self._pool.request(
                "POST",
                self._url,
                body=message.text,
                headers=headers,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            return _why_not(error)
        _read_to_its_end(answer)
        if 200 <= answer.status < 300:
            return ""
        reason = f"the server answers {answer.status} {answer.reason or ''}".rstrip()
        reason = reason[:_LONGEST_REASON]
        if answer.status in _TEMPORARY:
            return reason
        raise OutputError(f"{self.name}: {reason}")


def _why_not(error: Exception) -> str:
    """Return why a server was not reached, in the system's words where it has some."""
    cause = error.__cause__
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.strerror:
        return cause.strerror
    return f"{type(error).__name__}: {error}"[:_LONGEST_REASON]


def _authorization(address: TargetAddress) -> str:
    """Return the header with the login; "" if there is none.

    Raises:
        ConfigError: A header cannot hold the token. No message may show it, as http.client's does.
    """
    token, login = address.token, f"{address.user}:{address.password}"
    if token:
        if not token.isprintable() or max(token) > "\xff":
            raise ConfigError(
                f"--publish {address.given}: the token has characters that a header cannot have"
            )
        return f"Bearer {token}"
    if not address.user:
        return ""
    try:
        raw = login.encode("latin-1")
    except UnicodeEncodeError:
        raw = login.encode(errors="surrogateescape")
    return f"Basic {b64encode(raw).decode()}"


def _read_to_its_end(answer: Any) -> None:
    """Read the body of an answer, so that its connection can be used again.

    A body that is too long or too slow is not waited for: the connection is given up.
    """
    import urllib3

    left, until = _LONGEST_ANSWER, time.monotonic() + _BODY_S
    is_whole = False
    try:
        # Piece by piece: `read` waits for all of it, and a piece may come every 9 seconds.
        while not is_whole and left > 0 and time.monotonic() < until:
            piece = answer.read1(left)
            is_whole = not piece
            left -= len(piece or b"")
    except urllib3.exceptions.HTTPError:  # the status is known already
        pass
    if is_whole:
        answer.release_conn()
    else:
        answer.close()
