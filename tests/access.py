"""What every service must do with API keys, for the routes and RPCs of any of them."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import grpc

from reimagen_common.access.keys import make_key
from reimagen_common.access.rights import Right

# Those of an empty message, which names no prompt, pair or job.
_ALLOWED_CODES: Final = (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


def header(key: str) -> dict[str, str]:
    """Return the header with a key."""
    return {"Authorization": f"Bearer {key}"}


def check_route(
    ask: Callable[[dict[str, str]], int], keys: Mapping[Right, str], right: Right | None, allowed: Collection[int]
) -> None:
    """Check the statuses of a route for strangers and for keys of one right each.

    Args:
        ask: Sends a request with headers, and returns the status.
        keys: A key of each right.
        right: The right that the route requires; None if it is open.
        allowed: The statuses with that right.
    """
    unknown, _ = make_key("unknown", frozenset(Right))
    strangers = {ask(headers) for headers in ({}, header(unknown), {"Authorization": "Basic YTpi"})}
    if right is None:
        assert strangers == {200}
        return
    assert strangers == {401}
    for held, key in keys.items():
        status = ask(header(key))
        assert status in allowed if held is right else status == 403


def check_rpc(call: Callable[[Any], object], keys: Mapping[Right, str], right: Right) -> None:
    """Check the statuses of an RPC for strangers and for keys of one right each.

    Args:
        call: Makes a call of an empty message with metadata, and reads the whole answer.
        keys: A key of each right.
        right: The right that the RPC requires.
    """

    def code(metadata: Any) -> grpc.StatusCode:
        try:
            call(metadata)
        except grpc.RpcError as error:
            found: grpc.StatusCode = error.code()
            return found
        return grpc.StatusCode.OK

    assert code(None) is grpc.StatusCode.UNAUTHENTICATED
    assert code((("authorization", "Bearer nothing"),)) is grpc.StatusCode.UNAUTHENTICATED
    for held, key in keys.items():
        found = code((("authorization", f"Bearer {key}"),))
        assert found in _ALLOWED_CODES if held is right else found is grpc.StatusCode.PERMISSION_DENIED
