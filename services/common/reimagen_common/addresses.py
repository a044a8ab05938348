"""Types of settings that are addresses: where a service listens, its host names, and its public URL."""

import ipaddress
import re
from collections.abc import Iterable
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from reimagen_common.errors import InvalidArgument

LARGEST_PORT: Final = 65_535

_ADDRESS: Final = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.%]+)\]|(?P<host>[^:/\s\[\]@]+)):(?P<port>[0-9]+)", re.ASCII)
_HOST: Final = re.compile(r"\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+", re.ASCII)


def split_address(address: str) -> tuple[str, int]:
    """Return the host, without the brackets of an IPv6 address, and the port of `host:port`.

    Raises:
        ValueError: The address has another form, or the port is too large.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ValueError(f"must be host:port, such as 127.0.0.1:8000, got {address!r}")
    port = int(found["port"])
    if port > LARGEST_PORT:
        raise ValueError(f"must have a port from 0 to {LARGEST_PORT:,}, got {found['port']}")
    return found["v6"] or found["host"], port


def read_address(address: str, field: str) -> tuple[str, int]:
    """Return host and port of an address on a command line, see `split_address`.

    Raises:
        InvalidArgument: The address is invalid. The error names the field.
    """
    try:
        return split_address(address)
    except ValueError as error:
        raise InvalidArgument(str(error), field=field) from error


def _check_address(address: str) -> str:
    split_address(address)
    return address


def _check_base_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must be an http or https URL without a query, such as https://images.example.org/api")
    return url.rstrip("/")


def split_names(names: object) -> object:
    """Return the parts of a text that are separated by commas, without spaces. Other values are returned unchanged."""
    return tuple(name.strip() for name in names.split(",") if name.strip()) if isinstance(names, str) else names


def _check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _HOST.fullmatch(name):
            raise ValueError(f"must be host names without ports, separated by commas, got {name!r}")
    return names


Address = Annotated[str, AfterValidator(_check_address)]
"""An address host:port, with a port from 0 to 65,535."""

BaseUrl = Annotated[str, AfterValidator(_check_base_url)]
"""The public URL of a service, without a slash at the end."""

HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_names), AfterValidator(_check_names)]
"""Host names or IP addresses, separated by commas in environment variables."""


def canonical_host(host: str) -> str:
    """Return the normal form of a host for comparisons: lower case, no brackets, no dot at the end."""
    host = host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def hosts_of(http: str | None, base_url: str | None, names: Iterable[str]) -> frozenset[str]:
    """Return the canonical hosts of the addresses and the names, which a service accepts in addition to loopback."""
    hosts = list(names)
    if http:
        hosts.append(split_address(http)[0])
    if base_url:
        hosts.append(urlsplit(base_url).hostname or "")
    return frozenset(map(canonical_host, hosts))


def is_loopback(host: str) -> bool:
    """Return whether a canonical host is a loopback host, which only clients on this machine can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
