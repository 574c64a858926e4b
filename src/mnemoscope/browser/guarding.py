"""Who may ask: names of this machine, with the token where one is required; and what every answer says to the browser.

A page of another site can make a browser ask a server on loopback, under a name of its own that it has bound to
127.0.0.1 (DNS rebinding); the name then stands in the Host header, and is refused here.
"""

import hmac
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "connect-src 'self'",
        "style-src-elem 'self'",
        "style-src-attr 'unsafe-inline'",
        "img-src 'self' data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Scripts and styles come from this server's own files alone; attributes hold the drawings' styles."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "private, no-cache",
}


@dataclass(frozen=True, kw_only=True)
class Access:
    """Under which names, and with which token.

    Args:
        names: that a Host header may hold, besides those of loopback.
        any_address: whether it may hold any IP address: nobody can rebind one.
        token: that must be shown; "" for none.
        cookie: name of the cookie that holds it.
    """

    names: tuple[str, ...] = ()
    any_address: bool = False
    token: str = ""
    cookie: str = "mnemoscope"

    def knows(self, host: str | None) -> bool:
        """Whether a Host header names this machine."""
        name = _without_port(host or "")
        if name in (*LOOPBACK_NAMES, *(known.lower() for known in self.names)):
            return True
        return self.any_address and _is_address(name)

    def accepts(self, shown: str | None) -> bool:
        """Whether a token is the one; takes as long for every wrong one."""
        return not self.token or hmac.compare_digest((shown or "").encode(), self.token.encode())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def access_for(host: str, port: int, token: str, names: Iterable[str] = ()) -> Access:
    """What an address needs.

    Args:
        host: on which the server listens.
        port: likewise.
        token: that must be shown.
        names: under which it is asked for, besides its own.

    Raises:
        ValueError: an address that others can reach, without a token.
    """
    if not is_loopback(host) and not token:
        raise ValueError(f"{host}: others can reach this address, so a token is required, got none; give one")
    own = () if is_loopback(host) else (host, socket.gethostname(), socket.getfqdn())
    return Access(
        names=tuple(dict.fromkeys((*own, *names))),
        any_address=not is_loopback(host),
        token=token,
        cookie=f"mnemoscope-{port}",
    )


class Guard:
    """Lets through what may be asked, and puts `HEADERS` on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever is no HTTP is closed."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers, access = Headers(scope=scope), self._access
        if len(headers.getlist("host")) != 1 or not access.knows(headers.get("host")):
            return PlainTextResponse("This server is not known by that name; see `mnemoscope serve --help`.\n", 421)
        if not access.token:
            return None
        asked = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in asked if name == "token"]
        if given and access.accepts(given[0]):
            return self._welcome(scope, asked)
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        kept = cookie_parser(headers.get("cookie", "")).get(access.cookie)
        if access.accepts(kept) or (scheme.lower() == "bearer" and access.accepts(bearer)):
            return None
        return PlainTextResponse("A token is required: open the address that the server printed.\n", 401)

    def _welcome(self, scope: Scope, asked: list[tuple[str, str]]) -> ASGIApp:
        """Keep the token in a cookie and take it out of the address."""
        rest = urlencode([(name, value) for name, value in asked if name != "token"])
        # One slash: two would name another host.
        path = "/" + scope.get("raw_path", scope["path"].encode()).decode("latin-1").lstrip("/\\")
        answer = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
        answer.set_cookie(self._access.cookie, self._access.token, httponly=True, samesite="lax", path="/")
        return answer


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
