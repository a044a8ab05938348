"""The key and certificates that image files are signed with: the operator's, or local ones made at the first start."""

import contextlib
import os
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from reimagen_common.errors import InvalidArgument

LOCAL_SIGNER: Final = "Re-Imagen local signer"
"""The common name of certificates that a service made for itself."""
_LOCAL_FILE: Final = "signing.pem"
_LOCAL_DAYS: Final = 3650
_CURVES: Final = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class SigningIdentity:
    """A private key with its certificates."""

    chain: bytes
    """The certificate of the key and those of the authorities above it, as PEM."""
    algorithm: str
    """The name of the signature algorithm in C2PA."""
    key: bytes = field(repr=False)
    """The private key as PEM, PKCS #8."""


def load_identity(certificate: Path, key: Path) -> SigningIdentity:
    """Return the operator's key with its certificates.

    Raises:
        InvalidArgument: A file cannot be read, has expired, or does not fit the other one. The error names the setting.
    """
    return _identity(
        _read(certificate, "signing_certificate"),
        _read(key, "signing_key"),
        names=("signing_certificate", "signing_key"),
    )


def local_identity(folder: Path) -> SigningIdentity:
    """Return the key that the service made for itself, and make it if there is none, readable by this user alone.

    Services that start together with one folder use the same key.

    Raises:
        InvalidArgument: The folder cannot be written, or its file is not such a key, or has expired.
    """
    file = folder / _LOCAL_FILE
    try:
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _create(file, _make())
        content = file.read_bytes()
    except OSError as error:
        raise InvalidArgument(
            f"the signing key cannot be kept in {folder}: {error.strerror}; set a folder that can be written, or "
            "signing_certificate and signing_key",
            field="state",
        ) from error
    return _identity(content, content, names=("state", "state"))


def _read(file: Path, setting: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{file} cannot be read: {error.strerror}", field=setting) from error


def _identity(chain: bytes, key: bytes, *, names: tuple[str, str]) -> SigningIdentity:
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError as error:
        raise InvalidArgument("must be a PEM file of certificates, the signer's first", field=names[0]) from error
    try:
        private = serialization.load_pem_private_key(key, None)
        algorithm = _algorithm(private)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidArgument(
            "must be a PEM file of a private key, not encrypted: P-256, P-384, P-521, Ed25519, or RSA", field=names[1]
        ) from error
    if certificates[0].public_key() != private.public_key():
        raise InvalidArgument("must be the key of the first certificate in signing_certificate", field=names[1])
    if certificates[0].not_valid_after_utc < datetime.now(UTC):
        raise InvalidArgument(
            f"has expired on {certificates[0].not_valid_after_utc:%Y-%m-%d}; renew the certificate", field=names[0]
        )
    return SigningIdentity(
        chain=b"".join(_pem(certificate) for certificate in certificates), algorithm=algorithm, key=_key_pem(private)
    )


def _algorithm(key: PrivateKeyTypes) -> str:
    match key:
        case ec.EllipticCurvePrivateKey() if key.curve.name in _CURVES:
            return _CURVES[key.curve.name]
        case ed25519.Ed25519PrivateKey():
            return "ed25519"
        case rsa.RSAPrivateKey():
            return "ps256"
    raise ValueError("unsupported key")


def _create(file: Path, content: bytes) -> None:
    """Write a file unless another process has just written it. No process sees half of it."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".signing-")  # of mode 0600
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(name, file)
    finally:
        Path(name).unlink()


def _make() -> bytes:
    """Return a new key, its certificate, and that of an authority whose own key is thrown away."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name, name = _subject("Re-Imagen local authority"), _subject(LOCAL_SIGNER)
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key(), authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    # C2PA's profile of signing certificates: the usages below, and identifiers of both keys.
    signer = (
        _builder(name, authority_name, key.public_key(), authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return _key_pem(key) + _pem(signer) + _pem(authority)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, issuer_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=_LOCAL_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Re-Imagen, unverified"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
