"""The name of a request, the same in both services' logs and in the answer's header.

It is what the caller sent as `x-request-id`, over HTTP or as gRPC metadata, or made where nothing usable was sent.
"""

import re
import uuid
from contextvars import ContextVar
from typing import Final

HEADER: Final = "x-request-id"

# What others make: UUIDs, ULIDs, base64, names with a host before them. Nothing else gets into logs and headers.
_USABLE: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def begin(given: str | None) -> str:
    """Names the request that this context, a thread or a task, is at from now on, and returns the name.

    Args:
        given: What the caller sent. Unless it is 1 to 128 letters, digits or `._:/+=@-`, another one is made.
    """
    identifier = given if given and _USABLE.fullmatch(given) else uuid.uuid4().hex
    _current.set(identifier)
    return identifier


def end() -> None:
    """Tells that this context, a thread that will do other work, is at no request any more."""
    _current.set(None)


def current() -> str | None:
    """The name of the request that this context is at, if it is at one."""
    return _current.get()


def metadata() -> list[tuple[str, str]]:
    """The gRPC metadata that names the current request to another service."""
    identifier = _current.get()
    return [(HEADER, identifier)] if identifier else []
