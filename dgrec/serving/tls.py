"""TLS for what dgrec serves."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Final, NamedTuple
from weakref import WeakSet

from dgrec.errors import ConfigError

#: A client that has not finished its handshake after this long is disconnected.
_HANDSHAKE_S: Final = 5.0
_FAREWELL_S: Final = 1.0


class Certificate(NamedTuple):
    """The files of a certificate: with those of its issuers, if there are any, and its key.

    Args:
        key: "": it is in the file of the certificate.
    """

    file: str
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """Return it as a context for TLS.

        Raises:
            ConfigError: The files cannot be used.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without a password, OpenSSL would ask for the key's at the terminal.
            context.load_cert_chain(self.file, self.key or None, password="")
        except ssl.SSLError as error:
            reason = (error.reason or str(error)).lower().replace("_", " ")
            raise ConfigError(f"certificate {self.file}: {reason}") from None
        except OSError as error:
            which = self.file if not self.key else f"{self.file} or key {self.key}"
            raise ConfigError(f"certificate {which}: {error.strerror}") from None
        except ValueError as error:  # such as a NUL in a name
            raise ConfigError(f"certificate {self.file}: {error}") from None
        return context


class Handshake(asyncio.Protocol):
    """Begins TLS on a new connection, and then hands it to its handler.

    asyncio's own server calls no one before the handshake, so connections that never finish it
    could not be counted, and would take all file descriptors.

    Args:
        make_handler: Called after the handshake.
        open_: Handshakes that have not ended.
        transports: Gets the transport below TLS. A client that does not end TLS keeps it open for a
            while after the connection was closed.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        make_handler: Callable[[], asyncio.Protocol],
        open_: set[Handshake],
        transports: WeakSet[asyncio.Transport],
    ) -> None:
        self._context = context
        self._make_handler = make_handler
        self._open, self._transports = open_, transports
        self._open.add(self)  # also before it is connected: many come at once

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transports.add(transport)
        # Kept, or the task could be garbage collected.
        self._task = asyncio.get_running_loop().create_task(self._begin(transport))

    async def _begin(self, transport: asyncio.Transport) -> None:
        early = _Early()
        secure: asyncio.Transport | None = None
        try:
            with contextlib.suppress(OSError):  # TLS errors are OSErrors, too
                secure = await asyncio.get_running_loop().start_tls(
                    transport,
                    early,
                    self._context,
                    server_side=True,
                    ssl_handshake_timeout=_HANDSHAKE_S,
                    ssl_shutdown_timeout=_FAREWELL_S,
                )
        finally:
            self._open.discard(self)
            if secure is None:
                transport.abort()
        if secure is None or early.is_lost:
            return
        handler = self._make_handler()
        secure.set_protocol(handler)
        handler.connection_made(secure)
        if early.data:
            handler.data_received(bytes(early.data))


class _Early(asyncio.Protocol):
    """Keeps what comes with the end of the handshake, before there is a handler."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
