"""Channels to the gRPC servers of the services: with TLS if there is a CA, and with an API key if there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from reimagen_common.errors import InvalidArgument

_AUTHORIZATION: Final = "authorization"


@dataclass(frozen=True)
class Credentials:
    """How a client recognizes a server, and how the server recognizes the client."""

    api_key: str | None = None
    """API key of the server, or None if it requires none."""
    ca: Path | None = None
    """PEM file of the authorities that the server's certificate must come from. None: no TLS."""
    certificate: Path | None = None
    """PEM file of the client's certificate, for mutual TLS."""
    key: Path | None = None
    """PEM file of the private key of `certificate`."""
    prefix: str = ""
    """Beginning of the names of these settings in errors, such as `retriever_`."""

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return the gRPC metadata that carries the API key."""
        return ((_AUTHORIZATION, f"Bearer {self.api_key}"),) if self.api_key else ()

    def open_channel(self, target: str, options: Sequence[tuple[str, Any]] = ()) -> grpc.Channel:
        """Return a channel to a server, without connecting.

        Raises:
            InvalidArgument: A file cannot be read, or the settings do not fit together. The error names the setting.
        """
        if self.ca is None:
            if self.certificate or self.key:
                raise InvalidArgument("must be set for TLS", field=f"{self.prefix}ca")
            return grpc.insecure_channel(target, options=list(options))
        if (self.certificate is None) != (self.key is None):
            missing = "key" if self.key is None else "certificate"
            raise InvalidArgument(
                "a client certificate needs both its certificate and its key", field=f"{self.prefix}{missing}"
            )
        credentials = grpc.ssl_channel_credentials(
            root_certificates=self._read("ca"),
            private_key=self._read("key") if self.key else None,
            certificate_chain=self._read("certificate") if self.certificate else None,
        )
        return grpc.secure_channel(target, credentials, options=list(options))

    def _read(self, name: str) -> bytes:
        path: Path = getattr(self, name)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InvalidArgument(f"cannot read {path}: {error.strerror}", field=f"{self.prefix}{name}") from error
        if b"-----BEGIN " not in content:  # gRPC would fail later, at each connection.
            raise InvalidArgument(f"{path} is no PEM file", field=f"{self.prefix}{name}")
        return content


NO_CREDENTIALS: Final = Credentials()
