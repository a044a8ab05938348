"""Which hosts a server answers to, and links that lead back to it.

A page of another site can make its own name resolve to 127.0.0.1 (DNS rebinding): its visitors' browsers then take the
service on their machine for that site and let the page read and change it. The `Host` header still has the page's name.
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
    """Answers 421 to a request whose `Host` is none that the server answers to.

    It answers to loopback, to the address that the connection came in at, and to those it was told. A request without
    `Host`, as only HTTP/1.0 has it, comes from no browser and is let pass.
    """

    def __init__(self, app: ASGIApp, *, allowed: frozenset[str]) -> None:
        """Take the application that the requests go on to, and canonical hosts beside loopback."""
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if its host is one of ours."""
        host = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        if host is None or self._answers_to(host, scope):
            await self._app(scope, receive, send)
            return
        error = HTTPException(
            _MISDIRECTED,
            f"host: this service does not answer to {host[:_SHOWN]!r}; use the address that it listens on, "
            "or have its operator add the name to the setting allowed_hosts",
        )
        await answer_to_http(error, scope)(scope, receive, send)

    def _answers_to(self, given: str, scope: Scope) -> bool:
        found = _HOST_AND_PORT.fullmatch(given)
        if found is None:
            return False
        host = canonical_host(found[1])
        local = scope.get("server") or ("", None)
        return host in self._allowed or is_loopback(host) or host == canonical_host(str(local[0]))


def link(request: Request, base_url: str | None, route: str, /, **parameters: Any) -> str:
    """Return the address of a route: below the public one where it is set, else at the host that the client used."""
    if base_url is None:
        return str(request.url_for(route, **parameters))
    return f"{base_url}{request.app.url_path_for(route, **parameters)}"
