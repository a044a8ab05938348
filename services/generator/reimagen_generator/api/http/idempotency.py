"""The header Idempotency-Key, as the IETF's draft specifies it."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Header, Response

from reimagen_common.errors import Conflict, InvalidArgument, Unprocessable
from reimagen_generator.api.http.schema import ImagesRequest, ImagesResponse
from reimagen_generator.generation.digest import fields_as_json, request_digest
from reimagen_generator.jobs.store import parse_key

NAME: Final = "Idempotency-Key"
PATTERN: Final = r'^(?!""$)[!-~]{1,255}$'
"""The keys of the OpenAPI document. A key in quotes is the same as without, so two quotes alone are no key."""


def _read(
    text: Annotated[
        str | None,
        Header(
            alias=NAME,
            description="A key of your choice, such as a UUID, that makes it safe to repeat the request: the same key "
            "and body return the first answer.",
            json_schema_extra={"pattern": PATTERN},
        ),
    ] = None,
) -> str | None:
    return None if text is None else parse_key(text, field=NAME)


IdempotencyKey = Annotated[str | None, Depends(_read)]
"""A parameter of routes: the key, or None."""


@dataclass(frozen=True)
class _Entry:
    digest: str
    expires: float
    """Time of expiry on the monotonic clock, in seconds."""
    answer: ImagesResponse | None = None
    """None while the request is handled."""
    size: int = 0


class KeptAnswers:
    """Answers in memory, by the keys of their requests. Use it from one event loop."""

    def __init__(self, *, seconds: float, maximum_bytes: int) -> None:
        """Create an empty store.

        Args:
            seconds: Time until an answer expires.
            maximum_bytes: Maximum total size of all answers; the oldest are dropped earlier.
        """
        self._seconds = seconds
        self._maximum_bytes = maximum_bytes
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._bytes = 0

    async def once(
        self, key: str, owner: str, body: ImagesRequest, draw: Callable[[], Awaitable[ImagesResponse | Response]]
    ) -> ImagesResponse | Response:
        """Return the kept answer to an earlier request of the owner with the same key, or draw and keep the answer.

        Errors are not kept, so that the request can be sent again.

        Raises:
            InvalidArgument: The answer is a stream, which is not kept.
            Unprocessable: The earlier request was another one.
            Conflict: The earlier request is still handled.
        """
        if body.stream:
            raise InvalidArgument("requires stream = false; the events of a job can be read again", field=NAME)
        digest = f"{body.operation} {request_digest(body, fields_as_json(body))}"
        self._drop_expired()
        name = (owner, key)
        if (entry := self._entries.get(name)) is not None:
            return self._answer(entry, digest)
        self._entries[name] = _Entry(digest, expires=time.monotonic() + self._seconds)
        try:
            answer = await draw()
        except BaseException:
            self._drop(name)
            raise
        self._drop(name)
        if isinstance(answer, ImagesResponse):
            size = len(answer.model_dump_json())
            self._entries[name] = _Entry(digest, time.monotonic() + self._seconds, answer, size)
            self._bytes += size
            while self._bytes > self._maximum_bytes:
                self._drop(next(other for other, entry in self._entries.items() if entry.answer is not None))
        return answer

    def _answer(self, entry: _Entry, digest: str) -> ImagesResponse:
        if entry.digest != digest:
            raise Unprocessable("was used for another request; use a new key for each request", field=NAME)
        if entry.answer is None:
            raise Conflict("belongs to a request that is still handled; try again later", field=NAME, retry_after=1)
        return entry.answer

    def _drop_expired(self) -> None:
        now = time.monotonic()
        for name in [
            name for name, entry in self._entries.items() if entry.answer is not None and entry.expires <= now
        ]:
            self._drop(name)

    def _drop(self, name: tuple[str, str]) -> None:
        dropped = self._entries.pop(name, None)
        self._bytes -= dropped.size if dropped else 0
