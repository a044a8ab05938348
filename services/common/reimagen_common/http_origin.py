"""Refuse requests that pages of other sites send through their visitors' browsers."""

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

from reimagen_common.http_cors import ANY_ORIGIN

_FORBIDDEN = 403


def refusing_other_sites(base_url: str | None, cors_origins: Sequence[str]) -> Callable[[Request], None]:
    """Return a check that refuses requests from pages of other sites with 403, unless their origins are allowed.

    Otherwise, any page could use its visitors' browsers to change a service on their machines: browsers send forms to
    other sites without asking.
    """
    public = urlsplit(base_url or "").netloc

    def refuse(request: Request) -> None:
        origin = request.headers.get("origin")
        if origin in cors_origins or ANY_ORIGIN in cors_origins:
            return
        if origin is not None and urlsplit(origin).netloc not in (request.headers.get("host"), public or None):
            raise HTTPException(_FORBIDDEN, f"pages of {origin} may not change this service")

    return refuse
