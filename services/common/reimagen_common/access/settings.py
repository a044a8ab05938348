"""The settings of access to a service: keys, TLS and pages of other origins."""

import logging
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from reimagen_common.access.guard import Guard
from reimagen_common.access.key_file import KeyFile
from reimagen_common.access.limits import LocalCounters
from reimagen_common.access.redis_counters import RedisCounters
from reimagen_common.addresses import canonical_host, is_loopback, split_address
from reimagen_common.errors import InvalidArgument
from reimagen_common.http_cors import ANY_ORIGIN, Origins
from reimagen_common.tls import ServerTls, TlsFiles

_logger = logging.getLogger(__name__)


class AccessSettings(BaseSettings):
    """Settings of API keys, TLS and pages of other origins."""

    keys: Path | None = Field(
        None,
        description="File of API keys, which `reimagen-generator keys add` makes. Both services may use the same. "
        "Changes take effect without a restart. Unset: no keys are required.",
    )
    allow_anonymous: bool = Field(
        False,
        description="Whether to serve everyone, without keys, on addresses that other machines can reach. Only for "
        "networks that you trust.",
    )

    tls_certificate: Path | None = Field(
        None,
        description="PEM file of the certificate of REST and gRPC, followed by those of intermediate authorities. "
        "Changed files count from the next connection on. Unset: no TLS.",
    )
    tls_key: Path | None = Field(None, description="PEM file of the private key of tls_certificate, not encrypted.")
    tls_client_ca: Path | None = Field(
        None,
        description="PEM file of the authorities that the certificates of clients must come from (mutual TLS). Unset: "
        "clients need no certificate.",
    )

    cors_origins: Origins = Field(
        (),
        description="Origins of pages that may use REST from their visitors' browsers, separated by commas, such as "
        "https://app.example.org. * allows all, and requires keys.",
    )

    def open_guard(self, redis_url: str | None) -> Guard:
        """Return the guard of a service with these settings.

        Args:
            redis_url: Where requests and images are counted. None: in this process.

        Raises:
            InvalidArgument: The key file does not exist or is no key file, or the URL is invalid.
        """
        if self.allow_anonymous:
            _logger.warning("allow_anonymous is set: everyone who can reach this service may use it, without a key")
        if not self.keys:
            return Guard()
        try:
            counters = RedisCounters(redis_url) if redis_url else LocalCounters()
        except ValueError as error:
            raise InvalidArgument(str(error), field="redis_url") from error
        return Guard(KeyFile(self.keys), counters)

    def open_tls(self) -> ServerTls | None:
        """Return the TLS of a service with these settings, None without.

        Raises:
            InvalidArgument: A file is missing or cannot be used.
        """
        if self.tls_certificate is None or self.tls_key is None:
            for name in ("tls_certificate", "tls_key"):
                if (self.tls_certificate or self.tls_key or self.tls_client_ca) and getattr(self, name) is None:
                    raise InvalidArgument("must be set, because another setting of TLS is", field=name)
            return None
        return ServerTls(TlsFiles(self.tls_certificate, self.tls_key, self.tls_client_ca))

    def check_exposure(self, addresses: Iterable[str | None]) -> None:
        """Check that a service without keys can be reached from this machine only, or is meant to be open.

        With keys, pages of any origin may be allowed: they can do nothing without a key. Without keys, every page that
        someone visits could use the service on the visitor's machine.

        Raises:
            ValueError: It is not. The message says what to do.
        """
        if ANY_ORIGIN in self.cors_origins and not self.keys:
            raise ValueError(
                "cors_origins: * requires keys; set keys, or name the origins, such as https://example.org"
            )
        if self.keys and self.allow_anonymous:
            raise ValueError("allow_anonymous: must not be set together with keys; unset one of them")
        if self.keys or self.allow_anonymous:
            return
        for address in filter(None, addresses):
            if not is_loopback(canonical_host(split_address(address)[0])):
                raise ValueError(
                    f"keys: must be set, because other machines can reach {address}. Make a key file with "
                    "`reimagen-generator keys add NAME --file FILE`, or listen on 127.0.0.1, or set allow_anonymous = "
                    "true if everyone who can reach the service may use it"
                )
