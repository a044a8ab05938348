"""Check the key of each HTTP request before its body is read."""

import ipaddress
from typing import Final

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from reimagen_common.access import caller as callers
from reimagen_common.access.caller import ANONYMOUS, Caller
from reimagen_common.access.guard import Guard, require
from reimagen_common.access.rights import Rights, check_complete
from reimagen_common.access.routes import METRICS, Routes, routes_of
from reimagen_common.errors import LimitExceeded, PermissionDenied, Unauthenticated
from reimagen_common.http_errors import answer_to

_FORWARDED: Final = ("forwarded", "x-forwarded-for")


class KeyCheck:
    """ASGI middleware that refuses requests without the right that their route requires.

    A path that the application does not have also requires a key, so that strangers learn nothing from the answers.
    """

    def __init__(self, app: ASGIApp, *, guard: Guard, routes: Routes) -> None:
        """Wrap an application."""
        self._app = app
        self._guard = guard
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request if its caller may make it."""
        if scope["type"] == "http":
            try:
                caller = self._check(scope)
                if self._guard.has_rate_limit(caller):
                    await run_in_threadpool(self._guard.take_request, caller)
            except (Unauthenticated, PermissionDenied, LimitExceeded) as error:
                await answer_to(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> Caller:
        name = self._routes.find(scope["method"], scope["path"])
        right = None if name is None else self._routes[name]
        headers = Headers(scope=scope)
        if (name is not None and right is None) or (name == METRICS and _is_local(scope, headers)):
            return ANONYMOUS
        caller = self._guard.identify(headers.getlist("authorization"))
        callers.begin(caller)
        if right is not None:
            require(caller, right)
        return caller


def add_key_check(app: FastAPI, guard: Guard, rights: Rights) -> None:
    """Check the key of every request to an application. Call it after all routes and all other middleware were added.

    Raises:
        ValueError: No right is assigned to a route of the application.
    """
    names = routes_of(app)
    check_complete(rights, names)
    if guard.requires_keys:
        # In the order of the application, so that both find the same route.
        app.add_middleware(KeyCheck, guard=guard, routes=Routes({name: rights[name] for name in names}))


def _is_local(scope: Scope, headers: Headers) -> bool:
    """Return whether a request comes from this machine, and from no proxy on it."""
    client = scope.get("client")
    if client is None or any(name in headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
