"""Refuse changes by pages of other sites."""

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from fastapi import HTTPException, Request

from reimagen_common.http_cors import ANY_ORIGIN


def refusing_other_sites(base_url: str | None, cors_origins: Sequence[str]) -> Callable[[Request], None]:
    """Return a check that refuses requests from pages of other sites, unless their origins are allowed.

    Otherwise, any page could use its visitors' browsers to change the base of a service on their machines.
    """
    public = urlsplit(base_url or "").netloc

    def refuse(request: Request) -> None:
        origin = request.headers.get("origin")
        if origin in cors_origins or ANY_ORIGIN in cors_origins:
            return
        if origin is not None and urlsplit(origin).netloc not in (request.headers.get("host"), public or None):
            raise HTTPException(403, f"pages of {origin} may not change this knowledge base")

    return refuse
