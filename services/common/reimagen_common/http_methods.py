"""HEAD wherever there is GET, and which methods a path has."""

from typing import Any, Final

from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send


class HeadAsGet:
    """Answers HEAD as GET is answered; the server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        """Take the application that the requests go on to."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


def allowed_methods(scope: Scope) -> list[str]:
    """Return the methods that the path of the request has; of several routes that fit, the first one's path counts."""
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
"""The methods with a label of their own in metrics."""
