"""Signatures with the time that an authority of time stamps states: OpenSSL's, behind a local server."""

import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from reimagen_generator.generation import provenance
from reimagen_generator.generation.certificates import SigningIdentity, load_identity, local_identity
from reimagen_generator.generation.signing import Signer
from reimagen_generator.generation.verification import Verifier
from tests.generator.generation.test_signing import CREATED, PIXELS
from tests.waiting import wait_until

_CONFIG: Final = """
[tsa]
serial = {folder}/serial
signer_cert = {folder}/stamps.pem
certs = {folder}/root.pem
signer_key = {folder}/stamps.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""
_OTHER_USAGES: Final = dict.fromkeys(
    (
        *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("crl_sign", "encipher_only", "decipher_only"),
    ),
    False,
)


class Root:
    """A root authority, and the files of the certificates that it issued."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = folder / "root.pem"
        self._issue("root", self.key, timedelta(days=1), None)

    def issue(self, name: str, lifetime: timedelta, purpose: ObjectIdentifier) -> tuple[Path, Path]:
        """Return the files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        file = self.folder / f"{name}.key"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return self._issue(name, key, lifetime, purpose), file

    def _issue(
        self, name: str, key: ec.EllipticCurvePrivateKey, lifetime: timedelta, purpose: ObjectIdentifier | None
    ) -> Path:
        now, is_root = datetime.now(UTC), purpose is None
        usage = x509.KeyUsage(digital_signature=not is_root, key_cert_sign=is_root, **_OTHER_USAGES)
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name("root"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(issuer_id, critical=False)
        )
        if purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
        file = self.folder / f"{name}.pem"
        file.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return file


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, text) for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)])


@dataclass(frozen=True)
class Authority:
    """An authority of time stamps."""

    url: str
    root: Path


class _Server(ThreadingHTTPServer):
    folder: Path


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        query, config = (str(self.server.folder / name) for name in ("query", "tsa.cnf"))
        Path(query).write_bytes(self.rfile.read(int(self.headers["content-length"])))
        command = ["openssl", "ts", "-reply", "-config", config, "-section", "tsa", "-queryfile", query]
        answer = subprocess.run(command, capture_output=True, check=True).stdout
        self.send_response(200)
        self.send_header("content-type", "application/timestamp-reply")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    folder = tmp_path_factory.mktemp("authority")
    root = Root(folder)
    root.issue("stamps", timedelta(days=1), ExtendedKeyUsageOID.TIME_STAMPING)
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(_CONFIG.format(folder=folder))
    server = _Server(("127.0.0.1", 0), _Handler)
    server.folder = folder
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Authority(f"http://127.0.0.1:{server.server_port}/", root.certificate)
    server.shutdown()
    server.server_close()
    thread.join()


def sign(identity: SigningIdentity, url: str | None) -> bytes:
    return Signer(identity, url).sign(provenance.encode(PIXELS, "png", CREATED), "image/png", CREATED, ())


def test_a_signature_states_the_time_of_the_authority(authority: Authority, tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    signature = Verifier().verify(sign(local_identity(tmp_path), authority.url)).signature
    assert signature.status == "untrusted"
    assert signature.time is not None
    assert before <= datetime.fromisoformat(signature.time) <= datetime.now(UTC)


def test_a_signature_outlives_its_certificate_if_the_authority_of_its_time_is_trusted(
    authority: Authority, tmp_path: Path
) -> None:
    root = Root(tmp_path)
    certificate, key = root.issue("signer", timedelta(seconds=15), ExtendedKeyUsageOID.EMAIL_PROTECTION)
    identity = load_identity(certificate, key)
    stamped, plain = sign(identity, authority.url), sign(identity, None)
    both = tmp_path / "both.pem"
    both.write_bytes(root.certificate.read_bytes() + authority.root.read_bytes())
    of_signer, of_both = Verifier(root.certificate), Verifier(both)
    assert [of_signer.verify(file).signature.status for file in (stamped, plain)] == ["trusted", "trusted"]
    end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    wait_until(lambda: datetime.now(UTC) > end + timedelta(seconds=1))
    expired = of_signer.verify(plain).signature
    assert (expired.status, expired.reason) == ("invalid", "signingCredential.expired: certificate expired")
    assert of_signer.verify(stamped).signature.status == "invalid"
    assert of_both.verify(plain).signature.status == "invalid"
    assert of_both.verify(stamped).signature.status == "trusted"
