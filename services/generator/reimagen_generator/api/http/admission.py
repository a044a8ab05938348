"""Reject requests before their bodies, which may be large, are read if the engine admits none."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from reimagen_generator.engine.engine import Engine


def admitting_route(engine: Engine) -> type[APIRoute]:
    """Return a class of routes that reject requests with a body, before reading it, while the engine admits none."""

    class AdmittingRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            if self.body_field is None:
                return handle

            async def handle_if_admitted(request: Request) -> Response:
                # The slot is taken only after the body is read, so that slow uploads do not occupy the engine.
                engine.refuse_if_full()
                return await handle(request)

            return handle_if_admitted

    return AdmittingRoute
