"""TLS of the servers: certificates from files, which are read again when they change."""

import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from reimagen_common.errors import InvalidArgument

_logger = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True)
class TlsFiles:
    """The PEM files of a server's TLS, by the names of their settings."""

    tls_certificate: Path
    """The server's certificate, followed by those of intermediate authorities."""
    tls_key: Path
    """The private key of the certificate."""
    tls_client_ca: Path | None = None
    """The authorities that clients' certificates must come from. None: clients need no certificate."""


@dataclass(frozen=True)
class _Loaded:
    context: ssl.SSLContext
    grpc: grpc.ServerCertificateConfiguration


class ServerTls:
    """The TLS of a service, for its HTTP and its gRPC server.

    Changed files count from the next connection on. If they cannot be used, the last ones remain, and the log says why:
    the certificate may be replaced a moment before its key.
    """

    def __init__(self, files: TlsFiles) -> None:
        """Read the files.

        Raises:
            InvalidArgument: A file cannot be used. The error names its setting.
        """
        self._files = files
        self._lock = threading.Lock()
        self._stamp = self._read_stamp()
        self._loaded = _load(files)

    def http_context(self) -> ssl.SSLContext:
        """Return a context for an HTTP server. Each handshake takes the newest files."""
        context = _context(self._files)

        def use_newest(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self._newest().context

        context.sni_callback = use_newest
        return context

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return the credentials of a gRPC server. Each handshake takes the newest files."""
        taken = self._loaded

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal taken
            newest = self._newest()
            if newest is taken:
                return None  # gRPC keeps the last one.
            taken = newest
            return newest.grpc

        return grpc.dynamic_ssl_server_credentials(
            taken.grpc,
            fetch,  # type: ignore[arg-type]  # The stubs lack None.
            require_client_authentication=self._files.tls_client_ca is not None,
        )

    def _newest(self) -> _Loaded:
        with self._lock:
            stamp = self._read_stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._loaded = _load(self._files)
                except InvalidArgument as error:
                    _logger.error("TLS files cannot be used: the last ones remain", extra={"reason": error.message})
                else:
                    _logger.info("TLS files have changed")
            return self._loaded

    def _read_stamp(self) -> _Stamp:
        files = (self._files.tls_certificate, self._files.tls_key, self._files.tls_client_ca)
        return tuple(_stamp(file) for file in files if file is not None)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _load(files: TlsFiles) -> _Loaded:
    context = _context(files)
    pair = (_read(files, "tls_key"), _read(files, "tls_certificate"))
    authorities = _read(files, "tls_client_ca") if files.tls_client_ca else None
    configuration = grpc.ssl_server_certificate_configuration([pair], root_certificates=authorities)
    return _Loaded(context, configuration)


def _context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context with the files as they are now.

    Raises:
        InvalidArgument: A file cannot be used.
    """
    for name in ("tls_certificate", "tls_key", "tls_client_ca"):
        if getattr(files, name) is not None:
            _read(files, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files.tls_certificate, "tls_certificate", "certificate")
    try:
        context.load_cert_chain(files.tls_certificate, files.tls_key, password=_refuse_password)
    except (ssl.SSLError, ValueError) as error:
        raise InvalidArgument(
            f"{files.tls_key} must be the unencrypted PEM file of the private key of {files.tls_certificate}",
            field="tls_key",
        ) from error
    if files.tls_client_ca is not None:
        _load_authorities(context, files.tls_client_ca, "tls_client_ca", "authorities' certificates")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load_authorities(context: ssl.SSLContext, file: Path, setting: str, content: str) -> None:
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise InvalidArgument(f"{file} must be a PEM file of the {content}", field=setting) from error


def _read(files: TlsFiles, setting: str) -> bytes:
    file: Path = getattr(files, setting)
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"cannot read {file}: {error.strerror}", field=setting) from error


def _refuse_password(*_: Any) -> str:
    """Raise, where OpenSSL would ask on the terminal."""
    raise ValueError("the private key is encrypted")
