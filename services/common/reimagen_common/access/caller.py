"""The caller of the current request, which is known by its API key."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from reimagen_common.access.rights import Right


@dataclass(frozen=True)
class Caller:
    """The caller of a request. What a caller makes belongs to its `id`."""

    id: str
    """Public id of the caller's key, empty for `ANONYMOUS`."""
    rights: frozenset[Right]
    """What the caller may do."""


ANONYMOUS: Final = Caller(id="", rights=frozenset(Right))
"""The caller of all requests where no keys are required."""

_current: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)


def current_caller() -> Caller:
    """Return the caller of the current request, `ANONYMOUS` outside of requests."""
    return _current.get()


def begin(caller: Caller) -> None:
    """Set the caller of this context, which is the thread or the task of one request."""
    _current.set(caller)


@contextmanager
def acting_as(caller: Caller) -> Iterator[None]:
    """Do work on behalf of a caller in this context, such as a request that was accepted earlier."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)
