"""
What holds for every request: the host that was asked for, headers of security, a count.

A page elsewhere may point a name of its own at this machine (DNS rebinding) to read the console
through a visitor's browser. So only addresses, localhost and the names of `console.hosts` are
answered.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The hash of an empty style element: the chart library adds one and then fills it by script.
EMPTY = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    f"style-src 'self' '{EMPTY}'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
QUERY_BYTES_MAX = 16_384


class Guard:
    """An ASGI application before another one."""

    def __init__(self, app: ASGIApp, hosts: Sequence[str], counts: Counter[str]) -> None:
        self._app, self._hosts = app, {each.casefold() for each in hosts}
        self.counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.counts[f"requests.{message['status']}"] += 1
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers[name] = value
            await send(message)

        app: ASGIApp = self._app
        if not self.answers_to(Headers(scope=scope).get("host", "")):
            app = PlainTextResponse("this name is not one of console.hosts\n", 421)
        elif len(scope["query_string"]) > QUERY_BYTES_MAX:
            app = PlainTextResponse("the query is too long\n", 414)
        await app(scope, receive, secured)

    def answers_to(self, host: str) -> bool:
        """Whether *host*, of a request's header, is an address or one of our names."""
        bare = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        bare = bare.strip("[]").casefold()
        if bare == "localhost" or bare.endswith(".localhost") or bare in self._hosts:
            return True
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            return False
        return True
