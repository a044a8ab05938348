"""Support HEAD for every GET, and list the methods of a path."""

from typing import Any, Final

from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware that handles HEAD like GET. The server omits the body."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


def allowed_methods(scope: Scope) -> list[str]:
    """Return the methods of the path of a request. If several routes match, the path template of the first counts."""
    application: Any = scope["app"]
    template: str | None = None
    methods: set[str] = set()
    for route in iter_route_contexts(application.routes):
        if route.path is None or not compile_path(route.path)[0].match(scope["path"]):
            continue
        template = template or route.path
        if route.path == template:
            methods |= route.methods or set()
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The methods that metrics distinguish. All others have the label "other"."""
