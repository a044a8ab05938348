"""Verify an image file: who signed it, whether it was changed since, its watermark, and how it was drawn."""

import io
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import c2pa
import numpy as np
from cryptography import x509
from jaxtyping import UInt8

from reimagen_common.errors import InvalidArgument
from reimagen_common.images import ImageError, read_image
from reimagen_generator.generation import provenance
from reimagen_generator.generation.image_log import ImageLog
from reimagen_generator.generation.provenance import Provenance
from reimagen_generator.generation.signing import ASSERTION, CLOSED, SOFT_BINDING, media_type_of
from reimagen_generator.watermark.detection import Mark, detect

_NO_SUCH: Final = "must be a PNG, JPEG or WebP file"
# Detection reduces images to at most 256 pixels; twice as many keep what a larger one would tell.
_SEARCHED_SIDE: Final = 512
_TAMPERED: Final = ("mismatch", "missing", "malformed", "multipleAssertions")
_UNTRUSTED: Final = "the certificate comes from none of the authorities in the setting trust_anchors"

Status = Literal["trusted", "untrusted", "invalid", "absent"]
FoundBy = Literal["metadata", "watermark", "fingerprint"]


@dataclass(frozen=True)
class Signature:
    """The signature of a file."""

    status: Status
    signer: str | None = None
    """Name and organization of the certificate's owner."""
    time: str | None = None
    """The time that an authority of time stamps states (RFC 3339)."""
    reason: str | None = None
    """The reason if the status is not `trusted`."""


@dataclass(frozen=True)
class SoftBinding:
    """A watermark or fingerprint that a manifest states, by which the image is recognized without the manifest."""

    algorithm: str
    """Name of the algorithm: one of C2PA's list, or another one."""
    value: str
    """The id or fingerprint, as the algorithm writes it."""


@dataclass(frozen=True)
class Verification:
    """What a file reveals."""

    signature: Signature
    tampered: bool | None
    """Whether the file was changed after it was signed; None if it is not signed."""
    provenance: Provenance | None
    """The provenance of the image, if it was found. That in a file is only as reliable as the signature."""
    found_by: FoundBy | None
    """Where the provenance was found: in the file, or in the log, by the watermark or the fingerprint."""
    mark: Mark | None
    """The watermark of the image, if it was found."""
    soft_bindings: tuple[SoftBinding, ...] = ()
    """What the manifest of a file with a valid signature states about watermarks and fingerprints."""


class Verifier:
    """A reader of signed files that fetches nothing over the network."""

    def __init__(self, trust_anchors: Path | None = None, log: ImageLog | None = None) -> None:
        """Read the authorities whose signatures are trusted.

        Args:
            trust_anchors: A PEM file of their certificates. None trusts nobody.
            log: The log of drawn images, in which images without metadata are sought.

        Raises:
            InvalidArgument: The file cannot be read, or has no certificates.
        """
        self._settings: dict[str, Any] = {"verify": {**CLOSED, "verify_trust": True}}
        if trust_anchors is not None:
            self._settings["trust"] = {"trust_anchors": _read_anchors(trust_anchors)}
        self._log = log
        # A file of 32 MiB may decode to hundreds of megabytes.
        self._decoding = threading.Lock()

    def verify(self, file: bytes, *, owner: str = "") -> Verification:
        """Return what an image file reveals.

        Args:
            file: The file.
            owner: The id of the caller, whose images alone are sought in the log; empty where no keys are required.

        Raises:
            InvalidArgument: The file is not a PNG, JPEG or WebP image.
        """
        media_type = media_type_of(file)
        if media_type is None:
            raise InvalidArgument(_NO_SUCH, field="image")
        signature, tampered, manifest = self._read_manifest(file, media_type)
        pixels = self._decode(file)
        mark = None if pixels is None else detect(pixels)
        found_by: FoundBy | None = "metadata"
        origin = _signed_provenance(manifest) or _read_metadata(file)
        if origin is None:
            origin, found_by = self._seek(pixels, mark, owner)
        return Verification(signature, tampered, origin, found_by, mark, _soft_bindings(manifest))

    def _decode(self, file: bytes) -> UInt8[np.ndarray, "height width 3"] | None:
        try:
            with self._decoding:
                return np.asarray(read_image(file, _SEARCHED_SIDE).rgb)
        except ImageError:
            return None

    def _seek(
        self, pixels: UInt8[np.ndarray, "height width 3"] | None, mark: Mark | None, owner: str
    ) -> tuple[Provenance | None, FoundBy | None]:
        """Return the provenance of an image in the log, and how it was found."""
        if self._log is None or pixels is None:
            return None, None
        if mark is not None and mark.id is not None:
            origin = self._log.with_mark(mark.id, owner=owner)
            if origin is not None:
                return origin, "watermark"
        origin = self._log.most_similar(pixels, owner=owner)
        return origin, None if origin is None else "fingerprint"

    def _read_manifest(self, file: bytes, media_type: str) -> tuple[Signature, bool | None, dict[str, Any]]:
        """Return the signature, whether the file was changed, and the manifest, which is empty unless it is valid."""
        try:
            with (
                c2pa.Context.from_dict(self._settings) as context,
                c2pa.Reader(media_type, io.BytesIO(file), context=context) as reader,
            ):
                store: dict[str, Any] = json.loads(reader.json())
        except c2pa.C2paError.ManifestNotFound:
            return Signature("absent", reason="the file has no C2PA manifest"), None, {}
        except c2pa.C2paError.RemoteManifest:
            return Signature("absent", reason="the file only links to a manifest, which is not fetched"), None, {}
        except c2pa.C2paError as error:
            return Signature("invalid", reason=f"the manifest cannot be read: {error}"), True, {}
        manifest = store["manifests"].get(store["active_manifest"])
        if manifest is None:  # c2pa skips a damaged manifest, and still names it as the active one
            return Signature("invalid", reason="the manifest cannot be read"), True, {}
        failures = store["validation_results"]["activeManifest"]["failure"]
        signature = _signature(store["validation_state"], manifest.get("signature_info") or {}, failures)
        if signature.status != "invalid":
            return signature, False, manifest
        return signature, any(failure["code"].endswith(_TAMPERED) for failure in failures), {}


def _signature(state: str, info: dict[str, Any], failures: Sequence[dict[str, Any]]) -> Signature:
    signer = ", ".join(name for name in (info.get("common_name"), info.get("issuer")) if name) or None
    time = info.get("time")
    match state:
        case "Trusted":
            return Signature("trusted", signer, time)
        case "Valid":
            return Signature("untrusted", signer, time, _UNTRUSTED)
    reasons = [
        f"{failure['code']}: {failure.get('explanation') or ''}".removesuffix(": ")
        for failure in failures
        if failure["code"] != "signingCredential.untrusted"
    ]
    return Signature("invalid", signer, time, "; ".join(reasons) or "the manifest is invalid")


def _signed_provenance(manifest: dict[str, Any]) -> Provenance | None:
    for assertion in manifest.get("assertions", ()):
        if assertion["label"] == ASSERTION:
            try:
                return Provenance.from_json(json.dumps(assertion["data"]))
            except ValueError:
                return None
    return None


def _soft_bindings(manifest: dict[str, Any]) -> tuple[SoftBinding, ...]:
    return tuple(
        SoftBinding(str(assertion["data"].get("alg", "")), str(block.get("value", "")))
        for assertion in manifest.get("assertions", ())
        # A manifest with several has the labels c2pa.soft-binding__1 and so on.
        if assertion["label"].partition("__")[0] == SOFT_BINDING
        for block in assertion["data"].get("blocks", ())
    )


def _read_metadata(file: bytes) -> Provenance | None:
    try:
        return provenance.read(io.BytesIO(file))
    except InvalidArgument:
        return None


def _read_anchors(file: Path) -> str:
    try:
        content = file.read_bytes()
        x509.load_pem_x509_certificates(content)
        return content.decode("ascii")
    except (OSError, ValueError) as error:
        raise InvalidArgument(
            f"must be a readable PEM file of certificates, got {file}: {error}", field="trust_anchors"
        ) from error
