"""Refusing what can't be drawn now before its body, which may be large, is read."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from reimagen_generator.engine.engine import Engine
from reimagen_generator.engine.request_handle import RequestHandle


def admitting_route(engine: Engine) -> type[APIRoute]:
    """Make the class of routes whose requests, if they have a body, are refused unread while the engine admits none."""

    class AdmittingRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            if self.body_field is None:
                return handle

            async def handle_if_admitted(request: Request) -> Response:
                # The place is given back at once: a slow upload is to hold none.
                with engine.admit(RequestHandle(timeout=0)):
                    pass
                return await handle(request)

            return handle_if_admitted

    return AdmittingRoute
