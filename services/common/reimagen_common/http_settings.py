"""The settings of all HTTP servers."""

from pydantic import Field
from pydantic_settings import BaseSettings

from reimagen_common.addresses import BaseUrl, HostNames


class HttpSettings(BaseSettings):
    """Settings for accepting requests and making links."""

    allowed_hosts: HostNames = Field(
        (),
        description="Host names and IP addresses, separated by commas, to accept in the Host header in addition to "
        "loopback, the host that the service listens on and the host of base_url. Other hosts get 421.",
    )
    base_url: BaseUrl | None = Field(
        None,
        description="Public URL of REST, such as https://images.example.org/api, with which links in responses begin. "
        "Unset: they begin with the host of the request.",
    )
    body_seconds: float = Field(
        30,
        gt=0,
        le=3600,
        description="Time limit for receiving a request body, in seconds, plus one second per 256 KiB received.",
    )
