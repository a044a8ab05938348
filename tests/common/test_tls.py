"""TLS of HTTP and gRPC with certificates made here: reading, reloading, mutual TLS, and bad files."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from fastapi import FastAPI, Request
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reimagen_common.access.settings import AccessSettings
from reimagen_common.errors import InvalidArgument
from reimagen_common.grpc_client import Credentials
from reimagen_common.grpc_server import GrpcServer
from reimagen_common.http_server import HttpServer, listen
from reimagen_common.tls import ServerTls, TlsFiles

SECONDS = 20


@dataclass(frozen=True)
class Served:
    http_port: int
    grpc_port: int
    files: TlsFiles


def write(certificate: trustme.LeafCert, folder: Path, name: str) -> tuple[Path, Path]:
    """Write certificate and key, and return their files."""
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(files[1]))
    return files


def write_ca(ca: trustme.CA, folder: Path, name: str) -> Path:
    file = folder / f"{name}.pem"
    ca.cert_pem.write_to_path(str(file))
    return file


@contextmanager
def serving(files: TlsFiles) -> Iterator[Served]:
    tls = ServerTls(files)
    app = FastAPI()

    @app.get("/url")
    async def url(request: Request) -> str:
        return str(request.url_for("url"))

    listening = listen("127.0.0.1:0")
    http = HttpServer(app, listening, tls=tls)
    rpc = GrpcServer(address="127.0.0.1:0", workers=1, max_message_bytes=1024, tls=tls)
    http.start()
    rpc.start()
    rpc.set_serving(True)
    try:
        yield Served(listening.getsockname()[1], rpc.port, files)
    finally:
        rpc.stop(0)
        http.stop()


def get(served: Served, ca: Path, pair: tuple[Path, Path] | None = None) -> str:
    context = ssl.create_default_context(cafile=ca)
    if pair:
        context.load_cert_chain(*pair)
    answer = httpx.get(f"https://127.0.0.1:{served.http_port}/url", verify=context, timeout=SECONDS)
    found: str = answer.json()
    return found


def check(served: Served, credentials: Credentials) -> Any:
    """The health that gRPC reports over a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with credentials.open_channel(f"127.0.0.1:{served.grpc_port}", options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS).status


def serial(port: int) -> int:
    """The serial number of the certificate that a server shows."""
    shown = ssl.get_server_certificate(("127.0.0.1", port), timeout=SECONDS)
    return x509.load_pem_x509_certificate(shown.encode()).serial_number


def test_both_servers_speak_tls_only(tmp_path: Path) -> None:
    ca = trustme.CA()
    authority = write_ca(ca, tmp_path, "ca")
    with serving(TlsFiles(*write(ca.issue_cert("127.0.0.1"), tmp_path, "server"))) as served:
        assert get(served, authority) == f"https://127.0.0.1:{served.http_port}/url"
        assert check(served, Credentials(ca=authority)) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{served.http_port}/url", timeout=SECONDS)
        with socket.create_connection(("127.0.0.1", served.http_port), timeout=SECONDS) as plain:
            plain.sendall(b"GET /url HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP/1.1 200" not in plain.recv(1_000)
        with pytest.raises(grpc.RpcError) as caught:
            check(served, Credentials())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        stranger = write_ca(trustme.CA(), tmp_path, "stranger")
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            get(served, stranger)
        with pytest.raises(grpc.RpcError):
            check(served, Credentials(ca=stranger))
        old = ssl.create_default_context(cafile=authority)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"https://127.0.0.1:{served.http_port}/url", verify=old, timeout=SECONDS)


def test_a_new_certificate_counts_at_the_next_connection(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ca, other = trustme.CA(), trustme.CA()
    authority, new_authority = write_ca(ca, tmp_path, "ca"), write_ca(other, tmp_path, "other")
    with serving(TlsFiles(*write(ca.issue_cert("127.0.0.1"), tmp_path, "server"))) as served:
        first = serial(served.http_port)
        assert serial(served.grpc_port) == first
        write(ca.issue_cert("127.0.0.1"), tmp_path, "server")
        second = serial(served.http_port)
        assert second != first
        assert serial(served.grpc_port) == second
        write(other.issue_cert("127.0.0.1"), tmp_path, "server")
        assert get(served, new_authority)
        assert check(served, Credentials(ca=new_authority))
        with pytest.raises(httpx.ConnectError):
            get(served, authority)
        third = serial(served.http_port)
        served.files.tls_key.write_text("half a key")
        assert (serial(served.http_port), serial(served.grpc_port)) == (third, third)
        errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
        assert errors == ["TLS files cannot be used: the last ones remain"]
        write(ca.issue_cert("127.0.0.1"), tmp_path, "server")
        assert serial(served.http_port) not in (first, second, third)


def test_clients_need_certificates_of_the_authority(tmp_path: Path) -> None:
    ca, clients, strangers = trustme.CA(), trustme.CA(), trustme.CA()
    authority, client_ca = write_ca(ca, tmp_path, "ca"), write_ca(clients, tmp_path, "clients")
    pair = write(clients.issue_cert("client"), tmp_path, "client")
    stranger = write(strangers.issue_cert("client"), tmp_path, "stranger")
    files = TlsFiles(*write(ca.issue_cert("127.0.0.1"), tmp_path, "server"), client_ca)
    with serving(files) as served:

        def check_only(allowed: tuple[Path, Path], *refused: tuple[Path, Path] | None) -> None:
            assert get(served, authority, allowed)
            assert check(served, Credentials(ca=authority, certificate=allowed[0], key=allowed[1]))
            for given in refused:
                with pytest.raises(httpx.TransportError):
                    get(served, authority, given)
                certificate, key = given or (None, None)
                with pytest.raises(grpc.RpcError):
                    check(served, Credentials(ca=authority, certificate=certificate, key=key))

        check_only(pair, stranger, None)
        write_ca(strangers, tmp_path, "clients")
        check_only(stranger, pair, None)


def encrypted(certificate: trustme.LeafCert) -> bytes:
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def test_bad_files_are_refused_by_name(tmp_path: Path) -> None:
    ca = trustme.CA()
    certificate, key = write(ca.issue_cert("127.0.0.1"), tmp_path, "server")
    _, other_key = write(ca.issue_cert("127.0.0.1"), tmp_path, "other")
    missing, text = tmp_path / "missing", tmp_path / "text"
    text.write_text("no PEM")
    locked = tmp_path / "locked"
    locked.write_bytes(encrypted(ca.issue_cert("127.0.0.1")))
    cases: list[tuple[TlsFiles, str]] = [
        (TlsFiles(missing, key), "tls_certificate: cannot read .*missing: No such file"),
        (TlsFiles(text, key), "tls_certificate: .* must be a PEM file of the certificate"),
        (TlsFiles(certificate, missing), "tls_key: cannot read"),
        (TlsFiles(certificate, text), "tls_key: .* private key"),
        (TlsFiles(certificate, other_key), "tls_key: .* must be the unencrypted PEM file of the private key of"),
        (TlsFiles(certificate, locked), "tls_key: .*unencrypted"),
        (TlsFiles(certificate, key, missing), "tls_client_ca: cannot read"),
        (TlsFiles(certificate, key, text), "tls_client_ca: .* authorities"),
        (TlsFiles(tmp_path, key), "tls_certificate: cannot read .*: Is a directory"),
    ]
    for files, message in cases:
        with pytest.raises(InvalidArgument, match=message):
            ServerTls(files)


def test_half_of_the_settings_is_refused(tmp_path: Path) -> None:
    for given, lacking in (
        ({"tls_certificate": tmp_path}, "tls_key"),
        ({"tls_key": tmp_path}, "tls_certificate"),
        ({"tls_client_ca": tmp_path}, "tls_certificate"),
    ):
        with pytest.raises(InvalidArgument, match=f"^{lacking}: must be set"):
            AccessSettings.model_validate(given).open_tls()
    assert AccessSettings().open_tls() is None


def test_bad_files_of_a_client_are_refused_by_name(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no PEM")
    authority = write_ca(trustme.CA(), tmp_path, "ca")
    for credentials, message in (
        (Credentials(ca=tmp_path / "missing", prefix="retriever_"), "retriever_ca: cannot read"),
        (Credentials(ca=text, prefix="retriever_"), "retriever_ca: .*is no PEM file"),
        (Credentials(certificate=text, key=text, prefix="retriever_"), "retriever_ca: must be set"),
        (Credentials(ca=authority, certificate=text, prefix="retriever_"), "retriever_key: a client certificate needs"),
        (Credentials(ca=authority, key=text, prefix="retriever_"), "retriever_certificate: a client certificate needs"),
        (Credentials(ca=authority, certificate=text, key=text, prefix="retriever_"), "retriever_.*is no PEM file"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            credentials.open_channel("127.0.0.1:1")
