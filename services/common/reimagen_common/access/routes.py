"""The right that each route of an application requires."""

import re
from typing import Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path

from reimagen_common.access.rights import OPEN, Right, Rights

METRICS: Final = "GET /metrics"

# Probes have no keys, and the pages of the documentation hold nothing that is not public.
COMMON_ROUTES: Final[Rights] = {
    "GET /livez": OPEN,
    "GET /readyz": OPEN,
    "GET /healthz": OPEN,
    METRICS: Right.READ,
    "GET /openapi.json": OPEN,
    "HEAD /openapi.json": OPEN,
    "GET /docs": OPEN,
    "GET /docs/{name}": OPEN,
}
"""The rights of the routes that all services have."""


class Routes:
    """A table of rights, in which the route of a request can be found."""

    def __init__(self, rights: Rights) -> None:
        """Compile the table. Of several entries that match a path, the first counts, as in the application."""
        self._rights = rights
        self._patterns = [
            (method, compile_path(path)[0], name) for name in rights for method, _, path in [name.partition(" ")]
        ]

    def find(self, method: str, path: str) -> str | None:
        """Return the entry for a request, or None if the application has no such route."""
        for allowed, pattern, name in self._patterns:
            if allowed == method and pattern.match(path):
                return name
        return None

    def __getitem__(self, name: str) -> Right | None:
        """Return the right that an entry requires."""
        return self._rights[name]


def routes_of(app: FastAPI) -> list[str]:
    """Return the routes of an application as a table names them, in the order in which they match."""
    return [
        f"{method} {route.path}" for route in iter_route_contexts(app.routes) for method in sorted(route.methods or ())
    ]


def documented(path: str) -> str:
    """Return the path of a route as the OpenAPI document writes it, without convertors."""
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", path)
