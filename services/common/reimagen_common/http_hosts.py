"""Check the `Host` header of requests, and make links to the server.

The check prevents DNS rebinding: a page of another site can make its own host name resolve to 127.0.0.1. The browsers
of its visitors then treat the service on their machine as that site, and let the page read and change it. The `Host`
header still contains the host name of the page.
"""

import re
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from reimagen_common.addresses import canonical_host, is_loopback
from reimagen_common.http_errors import answer_to_http

_MISDIRECTED: Final = 421
_HOST_AND_PORT: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]*)?", re.ASCII)
_SHOWN: Final = 100


class HostGuard:
    """ASGI middleware that responds 421 to requests for other hosts.

    Accepted are loopback hosts, the local address of the connection, and the configured hosts. A request without `Host`
    is accepted, because only HTTP/1.0 allows it and no browser sends it.
    """

    def __init__(self, app: ASGIApp, *, allowed: frozenset[str]) -> None:
        """Wrap an application and set the canonical hosts to accept in addition to loopback."""
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request if its host is accepted."""
        host = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        if host is None or self._accepts(host, scope):
            await self._app(scope, receive, send)
            return
        error = HTTPException(
            _MISDIRECTED,
            f"host: this service does not accept the host {host[:_SHOWN]!r}; use the address that it listens on, "
            "or ask its operator to add the host to the setting allowed_hosts",
        )
        await answer_to_http(error, scope)(scope, receive, send)

    def _accepts(self, given: str, scope: Scope) -> bool:
        found = _HOST_AND_PORT.fullmatch(given)
        if found is None:
            return False
        host = canonical_host(found[1])
        local = scope.get("server") or ("", None)
        return host in self._allowed or is_loopback(host) or host == canonical_host(str(local[0]))


def link(request: Request, base_url: str | None, route: str, /, **parameters: Any) -> str:
    """Return the URL of a route, below the public URL if it is set, else at the host of the request."""
    if base_url is None:
        return str(request.url_for(route, **parameters))
    return f"{base_url}{request.app.url_path_for(route, **parameters)}"
