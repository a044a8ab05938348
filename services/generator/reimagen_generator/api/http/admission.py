"""Reject requests before their bodies, which may be large, are read if there is no place for them."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool


def admitting_route(admit: Callable[[], None]) -> type[APIRoute]:
    """Return a class of routes that call `admit` before a body is read; its error rejects the request."""

    class AdmittingRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            if "POST" not in (self.methods or ()):
                return handle

            async def handle_if_admitted(request: Request) -> Response:
                await run_in_threadpool(admit)
                return await handle(request)

            return handle_if_admitted

    return AdmittingRoute
