"""Reject requests before their bodies, which may be large, are read if the engine admits none."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from reimagen_generator.engine.engine import Engine
from reimagen_generator.engine.request_handle import RequestHandle


def admitting_route(engine: Engine) -> type[APIRoute]:
    """Return a class of routes that reject requests with a body, before reading it, while the engine admits none."""

    class AdmittingRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            if "POST" not in (self.methods or ()):
                return handle

            async def handle_if_admitted(request: Request) -> Response:
                # Release the admission at once, so that slow uploads do not occupy the queue.
                with engine.admit(RequestHandle(timeout=0)):
                    pass
                return await handle(request)

            return handle_if_admitted

    return AdmittingRoute
