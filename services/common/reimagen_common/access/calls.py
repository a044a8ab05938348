"""Check the key of each RPC before its message is decoded."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from google.protobuf.descriptor_pool import Default

from reimagen_common.access.caller import ANONYMOUS, Caller
from reimagen_common.access.guard import Guard, require
from reimagen_common.access.rights import Right, check_complete
from reimagen_common.errors import PermissionDenied, ReimagenError, Unauthenticated

_AUTHORIZATION: Final = "authorization"

Behavior = Callable[[Any, Any], Any]
"""A method of a servicer: it takes a request, or an iterator of requests, and a context."""


class CallCheck:
    """The checks of the keys, rights and limits of RPCs."""

    def __init__(self, guard: Guard, rights: Mapping[str, Right]) -> None:
        """Create the checks of a server, from the right that each RPC requires."""
        self._guard = guard
        self._rights = rights

    def check_complete(self, service: str) -> None:
        """Check that all RPCs of a gRPC service have a right, if keys are required.

        Raises:
            ValueError: An RPC has none.
        """
        if self._guard.requires_keys:
            check_complete(self._rights, calls_of(service))

    def identify(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> tuple[Caller, ReimagenError | None]:
        """Return the caller, and why its request is refused, or None if it may make it."""
        sent = [value for name, value in metadata if name == _AUTHORIZATION and isinstance(value, str)]
        caller = ANONYMOUS
        try:
            caller = self._guard.identify(sent)
            require(caller, self._rights.get(method, Right.READ))
        except (Unauthenticated, PermissionDenied) as error:
            return caller, error
        return caller, None

    def counted(self, caller: Caller, behavior: Behavior) -> Behavior:
        """Return a behavior that counts the request first. Counting can wait for Redis, so it takes a thread."""
        if not self._guard.has_rate_limit(caller):
            return behavior

        def count(request: Any, context: Any) -> Any:
            self._guard.take_request(caller)
            return behavior(request, context)

        return count


def calls_of(service: str) -> list[str]:
    """Return the RPCs of a gRPC service, such as `reimagen.v1.Retrieval`, as a table of rights names them."""
    return [f"{service}/{method.name}" for method in Default().FindServiceByName(service).methods]
