"""Whom the server answers: pages of its own, asked for under its own name, and no others.

Any page that is open in a browser can send requests to this machine, and a name of its own can be made to point here
(DNS rebinding). So `Host` must be a name of this server, and `Origin`, where a browser sends it, the server itself.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src data:; media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Names:
    """What a server at `host` and `port` may be called.

    Where it listens to other machines too, that is any address written in numbers, which no foreign name can be.
    """

    host: str
    port: int

    @property
    def local(self) -> bool:
        """Whether it is reached from this machine alone."""
        return self.host == "localhost" or (_is_address(self.host) and ipaddress.ip_address(self.host).is_loopback)

    def own(self, asked: str) -> bool:
        """Whether a `Host` header means this server."""
        name, colon, port = asked.rpartition(":")
        if not colon or not port.isdecimal():
            name, port = asked, "80"
        name = name.removeprefix("[").removesuffix("]").lower()
        if port != str(self.port):
            return False
        if name in (self.host.lower(), "localhost", "127.0.0.1", "::1"):
            return True
        return not self.local and (_is_address(name) or name == socket.gethostname().lower())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Middleware: refuses what is foreign, and tells browsers to take nothing from elsewhere."""

    def __init__(self, app: ASGIApp, names: Names) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        why = self._refused(scope["method"], Headers(scope=scope))
        if why:
            return await JSONResponse({"error": why}, 403)(scope, receive, sent)
        return await self._app(scope, receive, sent)

    def _refused(self, method: str, headers: Headers) -> str | None:
        """Why a request is not answered."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._names.own(host):
            return f"host '{host}': is not this server. Open the address that stemforge ui has printed."
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        visited = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if origin not in (None, f"http://{host}") or (foreign and not visited):
            return "the request comes from another page. Open the address that stemforge ui has printed."
        return None
