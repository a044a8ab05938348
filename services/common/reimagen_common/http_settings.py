"""The settings that every HTTP server of ours has."""

from pydantic import Field
from pydantic_settings import BaseSettings

from reimagen_common.addresses import BaseUrl, HostNames


class HttpSettings(BaseSettings):
    """How requests are let in, and how links lead back."""

    allowed_hosts: HostNames = Field(
        (),
        description="Names and IP addresses, separated by commas, that clients may use for this service in HTTP's Host "
        "header, beside loopback, the host that it listens on and that of base_url; others are answered 421.",
    )
    base_url: BaseUrl | None = Field(
        None,
        description="The public address of REST, such as https://images.example.org/api, which links in answers "
        "begin with; unset, they begin with the host that the client used.",
    )
    body_seconds: float = Field(
        30,
        gt=0,
        le=3600,
        description="How long a request's body may take to arrive, beside a second for each 256 KiB of it.",
    )
