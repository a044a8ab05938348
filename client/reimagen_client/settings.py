"""Where the service is, and the key for it: from arguments or the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

import httpx

from reimagen_client.errors import InvalidRequest

DEFAULT_BASE_URL: Final = "http://127.0.0.1:8000/v1"
DEFAULT_GRPC: Final = "127.0.0.1:50052"
TIMEOUT_SECONDS: Final = 330.0
"""Default time to wait for an answer or the next event: longer than the service takes at most."""


@dataclass(frozen=True)
class Connection:
    """The address of a service and the key for it."""

    base_url: str
    """URL that the paths of OpenAI's API follow, such as `http://127.0.0.1:8000/v1`."""
    api_key: str | None = field(default=None, repr=False)
    """API key, or None to send none."""

    @classmethod
    def find(
        cls, base_url: str | None = None, api_key: str | None = None, environment: Mapping[str, str] = os.environ
    ) -> Self:
        """Return the connection from arguments, else from the environment.

        REIMAGEN_BASE_URL and REIMAGEN_API_KEY take precedence over OPENAI_BASE_URL and OPENAI_API_KEY. The key of
        OpenAI is used only with the URL from OPENAI_BASE_URL, so that it is never sent to another service.

        Args:
            base_url: URL of the service. Without a path, `/v1` is appended.
            api_key: API key of the service.
            environment: The environment variables.

        Raises:
            InvalidRequest: The URL or the key is invalid.
        """
        api_key = api_key or environment.get("REIMAGEN_API_KEY") or None
        base_url = base_url or environment.get("REIMAGEN_BASE_URL")
        if not base_url and (base_url := environment.get("OPENAI_BASE_URL")):
            api_key = api_key or environment.get("OPENAI_API_KEY") or None
        return cls(_checked_url(base_url or DEFAULT_BASE_URL), check_key(api_key))

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each request."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}


def _checked_url(text: str) -> str:
    try:
        url = httpx.URL(text.strip())
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidRequest(f"base_url: {error}", field="base_url") from error
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise InvalidRequest(
            f"base_url: must be a URL such as {DEFAULT_BASE_URL}, without a user name or password", field="base_url"
        )
    path = url.path.rstrip("/") or "/v1"
    return str(url.copy_with(path=path, query=None, fragment=None))


def check_key(key: str | None) -> str | None:
    """Return an API key without surrounding blanks.

    Raises:
        InvalidRequest: The key has other characters than visible ASCII. The error does not contain it.
    """
    if key is None:
        return None
    key = key.strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidRequest("api_key: must have only visible ASCII characters, without blanks", field="api_key")
    return key or None
