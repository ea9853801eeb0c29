"""Who may look at the page: the Host header, the token, the methods, and what a browser is told to refuse.

Owns every security header. Does not own what is answered (app.py).
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "autoresearch_token"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Wraps an application: answers only whoever names this host, holds the token, and reads.

    Args:
        app: what is guarded.
        host: the address it is bound to.
        token: what a visitor must show once, as `?token=` or as a bearer; None asks for nothing.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None) -> None:
        self._app = app
        self._host = host
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await (refused or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not named_here(headers.get("host", ""), self._host):
            return PlainTextResponse("This page is not served under that name.\n", 421)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("This page only shows.\n", 405, {"Allow": "GET, HEAD"})
        return None if self._token is None else self._without_token(scope, headers, self._token)

    def _without_token(self, scope: Scope, headers: Headers, token: str) -> Response | None:
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        for given in (value for name, value in query if name == "token"):
            if _same(given, token):
                rest = urlencode([(name, value) for name, value in query if name != "token"])
                response = RedirectResponse(_local(scope["path"]) + (f"?{rest}" if rest else ""), 303)
                response.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
                return response
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if _same(bearer, token) or _same(_cookie(headers.get("cookie", "")), token):
            return None
        return PlainTextResponse("A token is needed: open the address that `explore` printed.\n", 401)


def named_here(header: str, host: str) -> bool:
    """Say whether a Host header names this server, so that no other site's name can be pointed at it.

    Args:
        header: as it was sent, with or without a port.
        host: the address the server is bound to.
    """
    name = header.rsplit(":", 1)[0] if not header.endswith("]") and ":" in header else header
    name = name.strip("[]").lower().rstrip(".")
    if name in ("localhost", "127.0.0.1", "::1"):
        return True
    if is_loopback(host):
        return False
    return name in (host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()) or _is_address(name)


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _local(path: str) -> str:
    """Return a path that a browser cannot take for another host's."""
    return "/" + path.lstrip("/\\")
