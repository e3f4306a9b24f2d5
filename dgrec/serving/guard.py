"""Access to the server: checks of Host, Origin and token.

A page on the web can make a browser send requests to its own machine. Such requests have the page
as their Origin, or (where the page's own name leads to this machine) a foreign Host.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Collection
from typing import Final
from urllib.parse import quote, unquote

from aiohttp import web

from dgrec.config import environment_secret

_TOKEN_VARIABLE: Final = "DGREC_TOKEN"
_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Refuses requests of foreign pages, and those without the token.

    Addresses that only this machine reaches need no token. Others need the token in the environment
    variable DGREC_TOKEN, or a random one. A token that is set is asked for everywhere.

    Args:
        cookie: The name of the cookie that has the token, where pages are served. They may show
            pictures that other users of this machine must not see: the token is then asked for
            always, on every address.
        is_secure: Whether the cookie goes over TLS only.
    """

    def __init__(self, host: str, *, cookie: str = "", is_secure: bool = False) -> None:
        self._is_local = is_loopback(host)
        given = environment_secret(_TOKEN_VARIABLE).strip()
        #: Whether the user has set a token.
        self.has_own_token = bool(given)
        needs_token = bool(cookie) or not self._is_local
        self.token = given or (secrets.token_urlsafe(24) if needs_token else "")
        # Cookies ignore ports, so the name has it. Browsers take __Host- from this very host only.
        self._cookie = f"__Host-{cookie}" if is_secure else cookie
        self._is_secure = is_secure
        # Pages on other ports of the same host have the cookie, too.
        self._foreign = ("cross-site", "same-site") if cookie else ("cross-site",)
        self._once = ""
        name = socket.gethostname().lower()
        self._names = {"localhost"} if self._is_local else {"localhost", host.lower(), name}

    def refusal(
        self,
        request: web.BaseRequest,
        origins: Collection[str],
        *,
        is_public: bool,
        is_entry: bool = False,
    ) -> web.Response | None:
        """Return the answer to a request that is refused; None if it may pass.

        Args:
            origins: Origins of other pages that may ask.
            is_public: Ask for no token but one that the user has set.
            is_entry: Links on other pages may lead there.
        """
        hosts = request.headers.getall("Host", [])
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return web.Response(status=403, text="foreign Host\n")
        origin = request.headers.get("Origin")
        if origin is not None:
            own = (f"http://{hosts[0]}", f"https://{hosts[0]}")
            if origin not in own and origin not in origins:
                return web.Response(status=403, text="foreign Origin\n")
        # For pictures and the like, browsers send no Origin. A link may be followed; where pages
        # are served, to their entry only: a page can have browsers follow links.
        is_foreign = origin is None and request.headers.get("Sec-Fetch-Site") in self._foreign
        is_link = is_foreign and request.headers.get("Sec-Fetch-Mode") == "navigate"
        if is_foreign and not (is_link and (is_entry or not self._cookie)):
            return web.Response(status=403, text="foreign page\n")
        is_public = is_public and not self._cookie
        if not self.token or (is_public and not self.has_own_token):
            return None
        if self._has_token(request):
            return None
        # Browsers hold the cookie back when another site's page leads here. The entry has nothing
        # secret, and with what it loads they send the cookie.
        if is_link and is_entry and "token" not in request.query:
            return None
        return web.Response(
            status=401,
            text="the token is missing or wrong\n",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def make_single_use(self) -> str:
        """Return a token that one request may use instead of the other.

        All users of the machine see the address that a browser is started with.
        """
        self._once = secrets.token_urlsafe(24)
        return self._once

    def set_cookie(self, response: web.StreamResponse) -> None:
        """Give the browser the token, for its next requests."""
        response.set_cookie(
            self._cookie,
            quote(self.token, safe=""),
            path="/",
            httponly=True,
            samesite="Strict",
            secure=self._is_secure,
        )

    def _is_own(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].strip("[]").lower()
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._is_local

    def _has_token(self, request: web.BaseRequest) -> bool:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = request.query.get("token", "")
        cookie = unquote(request.cookies.get(self._cookie, "")) if self._cookie else ""
        if self._once and hmac.compare_digest(_bytes(given), _bytes(self._once)):
            self._once = ""
            return True
        return self._is_token(given) or self._is_token(cookie)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(_bytes(given.strip()), _bytes(self.token))


def _bytes(text: str) -> bytes:
    """Return a text of headers or the environment as it came: it may not be UTF-8."""
    return text.encode(errors="surrogateescape")
