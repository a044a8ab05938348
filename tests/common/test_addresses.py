"""Settings that are addresses."""

from collections.abc import Mapping

import pytest
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from reimagen_common.addresses import Address, hosts_of, split_address
from reimagen_common.http_settings import HttpSettings


class Listening(BaseSettings):
    http: Address


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("host.example:65535", ("host.example", 65535)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
    assert Listening(http=address).http == address


@pytest.mark.parametrize("port", ["65536", "99999", "4294967376"])
def test_a_port_above_65535_is_named(port: str) -> None:
    with pytest.raises(ValidationError, match=f"must have a port from 0 to 65,535, got {port}"):
        Listening(http=f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    "address", ["8000", "127.0.0.1", "127.0.0.1:http", ":80", "::1:80", "a b:80", "u@h:80", "h:-1"]
)
def test_an_invalid_address_is_reported_with_an_example(address: str) -> None:
    with pytest.raises(ValidationError, match=r"must be host:port, such as 127\.0\.0\.1:8000"):
        Listening(http=address)


def test_hosts_come_from_the_addresses_and_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_HOSTS", "Generator, [FD00::1],10.0.0.7")
    settings = HttpSettings(base_url="https://Images.example.org:8443/api/")
    assert settings.base_url == "https://Images.example.org:8443/api"
    found = hosts_of("machine.example:8000", settings.base_url, settings.allowed_hosts)
    assert found == {"generator", "fd00::1", "10.0.0.7", "machine.example", "images.example.org"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"allowed_hosts": "a.example:80"}, "must be host names without ports"),
        ({"allowed_hosts": "https://a.example"}, "must be host names without ports"),
        ({"base_url": "images.example.org"}, "must be an http or https URL"),
        ({"base_url": "ftp://a.example"}, "must be an http or https URL"),
        ({"base_url": "https://a.example/?b=c"}, "must be an http or https URL"),
        ({"base_url": "https://a.example:99999"}, "must be an http or https URL"),
        ({"base_url": "https://user:word@a.example"}, "must be an http or https URL"),
    ],
)
def test_an_invalid_host_or_public_url_is_refused(given: Mapping[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HttpSettings.model_validate(given)
