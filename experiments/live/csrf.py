"""Whose requests are answered: this page's own, and no other page's that a browser has open."""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or a name."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class OwnRequests:
    """Refuses what another site sends through a visitor's browser.

    A name that another site has pointed at this machine shows in `Host`, and a page of another site in `Origin`.

    Args:
        app: what answers.
        remote: whether other machines may ask, by whatever name they know this one.
    """

    def __init__(self, app: ASGIApp, remote: bool) -> None:
        self._app, self._remote = app, remote

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with 403; a refused websocket is never accepted."""
        if scope["type"] not in ("http", "websocket") or self._allowed(Headers(scope=scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse("not from this page", 403)(scope, receive, send)

    def _allowed(self, headers: Headers) -> bool:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._remote and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return False
        return origin is None or urlsplit(origin).netloc == host
