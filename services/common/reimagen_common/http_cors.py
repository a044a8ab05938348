"""Allow pages of other origins to use a service from their visitors' browsers (CORS)."""

from collections.abc import Sequence
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import FastAPI
from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode
from starlette.middleware.cors import CORSMiddleware

from reimagen_common.addresses import split_names
from reimagen_common.http_methods import METHODS
from reimagen_common.request_id import HEADER as REQUEST_ID

ANY_ORIGIN: Final = "*"
# What a page may read of a response in addition to what every page may.
_EXPOSED: Final = ("ETag", "Retry-After", "WWW-Authenticate", REQUEST_ID)


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        parts = urlsplit(origin)
        if origin != ANY_ORIGIN and (parts.scheme not in ("http", "https") or origin != _origin(origin)):
            raise ValueError(
                f"must be origins, such as https://app.example.org, separated by commas, or *, got {origin!r}"
            )
    return origins


def _origin(url: str) -> str:
    """Return the origin of a URL, as browsers write it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_names), AfterValidator(_check_origins)]
"""Origins of pages, separated by commas in environment variables, or `*` for all."""


def add_cors(app: FastAPI, origins: Sequence[str]) -> None:
    """Allow pages of these origins to make requests. Call it last, because preflight requests have no key.

    Cookies are never allowed: no service has any, and pages send keys themselves.
    """
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=sorted(METHODS),
            allow_headers=["*"],
            expose_headers=list(_EXPOSED),
        )
