"""Who may use the page: the right host, the page itself and no other site, and whoever has the token.

Three checks that overlap. The host stops names of other sites that were pointed at this machine (DNS rebinding);
Origin, Sec-Fetch-Site and a header that no form can send stop other sites' pages; the token stops everybody else.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LOOPBACK", "Access", "Guard", "Json", "names_of_this_machine", "refused"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    " media-src 'self' blob:; connect-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer some requests of the page itself have the origin null
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who is let in.

    Attributes:
        names: hosts that the page may be asked for by; ``any_address`` also allows every numeric address.
        token: that has to be given; None if nothing has to.
        cookie: name of the cookie that holds it. secure: send it over HTTPS only.
    """

    names: Collection[str] = LOOPBACK
    any_address: bool = False
    token: str | None = None
    cookie: str = "vitlr"
    secure: bool = False

    def allows_host(self, host: str) -> bool:
        """True for a Host header that names this machine."""
        name = _name_of(host)
        if name is None:
            return False
        return name in self.names or (self.any_address and _is_address(name))

    def knows(self, given: str | None) -> bool:
        """True if no token is needed or this is it, in a time that does not depend on how much of it is right."""
        if self.token is None:
            return True
        return hmac.compare_digest((given or "").encode("utf-8", "surrogatepass"), self.token.encode())


def names_of_this_machine() -> tuple[str, ...]:
    """Names under which others may reach it."""
    own = socket.gethostname().lower()
    return (*LOOPBACK, own, f"{own.partition('.')[0]}.local")


def _name_of(host: str) -> str | None:
    """The name of a Host header without its port, in lower case; None if it is no host."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018  # ValueError if it is no number
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc or not parts.hostname:
        return None
    return parts.hostname


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Json(JSONResponse):
    """JSON in ASCII: what cannot be encoded, such as half a letter of a name, must not break the answer."""

    def render(self, content: object) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def refused(status: int, sentence: str, **more: object) -> Response:
    """An error as every route answers it."""
    return Json({"error": sentence, **more}, status_code=status)


class Guard:
    """Asks ``Access`` before anything of a request is read, and sets the headers that restrict what a page may load.

    Plain ASGI, as Starlette's ``BaseHTTPMiddleware`` holds back a body.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a WebSocket: the page has none
            await send({"type": "websocket.close", "code": 1008})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refusal(scope)
        await (self._app if answer is None else answer)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """What is answered in place of the page; None to let a request through."""
        headers, method = Headers(scope=scope), scope["method"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._access.allows_host(hosts[0]):
            return refused(
                403, "this page is not known under that name; use the address that vitlr serve printed"
            )
        if method not in ("GET", "HEAD", "POST"):
            return refused(405, "this method is not used here")
        if scope["path"] == "/":
            return self._entered(scope) if method == "GET" else None
        if not scope["path"].startswith("/live/"):
            return None  # the page itself, which is no secret
        if _from_another_site(headers, hosts[0]):
            return refused(403, "this request comes from another site")
        if method == "POST" and "x-vitlr" not in headers:
            return refused(403, "this request does not come from the page")
        if not self._access.knows(_token_in(headers, self._access.cookie)):
            return refused(
                403, "open the page with the address that vitlr serve printed, which ends in its token"
            )
        return None

    def _entered(self, scope: Scope) -> Response | None:
        """Put the token of the address into a cookie, so that it leaves the address bar and the history."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if not given or self._access.token is None:
            return None
        answer = RedirectResponse("/", status_code=303)
        if self._access.knows(given[-1]):
            answer.set_cookie(
                self._access.cookie,
                given[-1],
                httponly=True,
                samesite="strict",
                secure=self._access.secure,
            )
        return answer


def _from_another_site(headers: Mapping[str, str], host: str) -> bool:
    """True if a browser says that the request was made by a page of another origin."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != host.lower()


def _token_in(headers: Mapping[str, str], cookie: str) -> str | None:
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == cookie:
            return value
    return None
