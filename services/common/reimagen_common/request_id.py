"""The id of a request, which is the same in the logs of both services and in the header of the response.

It is the client's `x-request-id`, an HTTP header or gRPC metadata, or a new id if there is no usable one.
"""

import re
import uuid
from contextvars import ContextVar
from typing import Final

HEADER: Final = "x-request-id"

# Common forms: UUIDs, ULIDs, base64, names with a host prefix. Nothing else may enter logs and headers.
_USABLE: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def begin(given: str | None) -> str:
    """Set the request id of this context, which is a thread or a task, and return it.

    Args:
        given: The id from the client. If it is not 1 to 128 letters, digits or `._:/+=@-`, a new id is made.
    """
    identifier = given if given and _USABLE.fullmatch(given) else uuid.uuid4().hex
    _current.set(identifier)
    return identifier


def end() -> None:
    """Reset the request id of this context, because its thread will do other work."""
    _current.set(None)


def current() -> str | None:
    """Return the id of the current request, or None outside of requests."""
    return _current.get()


def metadata() -> list[tuple[str, str]]:
    """Return the gRPC metadata that passes the request id to another service."""
    identifier = _current.get()
    return [(HEADER, identifier)] if identifier else []
