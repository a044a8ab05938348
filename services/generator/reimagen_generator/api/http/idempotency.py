"""The header Idempotency-Key, as the IETF's draft specifies it."""

from typing import Annotated, Final

from fastapi import Depends, Header

from reimagen_generator.jobs.store import parse_key

NAME: Final = "Idempotency-Key"


def _read(
    text: Annotated[
        str | None,
        Header(
            alias=NAME,
            description="A key of your choice, such as a UUID, that makes it safe to repeat the request: the same key "
            "and body return the first answer.",
            json_schema_extra={"pattern": r"^[!-~]{1,255}$"},
        ),
    ] = None,
) -> str | None:
    return None if text is None else parse_key(text, field=NAME)


IdempotencyKey = Annotated[str | None, Depends(_read)]
"""A parameter of routes: the key, or None."""
