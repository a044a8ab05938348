"""Sign image files: a C2PA manifest with the provenance, and with each neighbor as an ingredient."""

import hashlib
import io
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import c2pa
from cachetools import LRUCache, cached
from PIL import Image

from reimagen_common.errors import InvalidArgument, ReimagenError
from reimagen_common.images import ImageError, read_image
from reimagen_generator.generation.certificates import SigningIdentity
from reimagen_generator.generation.images import MEDIA_TYPES
from reimagen_generator.generation.provenance import Provenance
from reimagen_generator.generation.retriever_client import Neighbor
from reimagen_generator.generation.xmp import SOURCE_TYPE, SYSTEM
from reimagen_generator.watermark.embedding import Embedded
from reimagen_generator.watermark.pattern import ALGORITHM

ASSERTION: Final = "reimagen.generation"
"""The label of the assertion that holds the provenance, as in `Provenance.to_json`."""
SOFT_BINDING: Final = "c2pa.soft-binding"
"""C2PA's label of the assertion that names a watermark and its id."""
# The library would fetch what a manifest links to, and make large thumbnails.
CLOSED: Final[Mapping[str, Any]] = {"remote_manifest_fetch": False, "ocsp_fetch": False}
_SETTINGS: Final = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {**CLOSED, "verify_after_sign": False},
}
_THUMBNAIL_SIDE: Final = 128
_THUMBNAIL_QUALITY: Final = 80

_logger = logging.getLogger(__name__)


class Signer:
    """The signer of image files, shared by all threads."""

    def __init__(self, identity: SigningIdentity, timestamp_authority: str | None = None) -> None:
        """Create the signer, and sign an image to see whether C2PA accepts the certificate.

        Args:
            identity: The key and its certificates.
            timestamp_authority: The URL of the authority (RFC 3161) that states when a file was signed.

        Raises:
            InvalidArgument: The certificate is not one that C2PA allows for signing.
        """
        self._identity = identity
        self._timestamp_authority = timestamp_authority
        blank = io.BytesIO()
        Image.new("RGB", (8, 8)).save(blank, "PNG")
        try:
            self._sign(blank.getvalue(), "image/png", Provenance("", 0, 8, ""), (), None, whole=True, timestamp=None)
        except c2pa.C2paError as error:
            raise InvalidArgument(
                f"C2PA does not allow this certificate: {error}; it needs the key usage digitalSignature and the "
                "extended key usage emailProtection or documentSigning",
                field="signing_certificate",
            ) from error

    def sign(
        self,
        file: bytes,
        media_type: str,
        provenance: Provenance,
        neighbors: Sequence[Neighbor],
        mark: Embedded | None = None,
    ) -> bytes:
        """Return a file with a signed manifest. A neighbor's own manifest is kept in it.

        If the authority of time stamps does not answer, or a neighbor's file cannot be parsed, the file is signed
        without the time, or with the neighbor's thumbnail alone.

        Args:
            file: The file.
            media_type: Its media type.
            provenance: How the image was drawn.
            neighbors: The neighbors that it is grounded on.
            mark: The watermark in its pixels, which the manifest states.

        Raises:
            ReimagenError: The file cannot be signed.
        """
        try:
            return self._sign(
                file, media_type, provenance, neighbors, mark, whole=True, timestamp=self._timestamp_authority
            )
        except c2pa.C2paError as error:
            _logger.warning("signed without time stamp and manifests of neighbors", extra={"reason": str(error)})
        try:
            return self._sign(file, media_type, provenance, neighbors, mark, whole=False, timestamp=None)
        except c2pa.C2paError as error:
            raise ReimagenError(f"the image file cannot be signed: {error}") from error

    def _sign(
        self,
        file: bytes,
        media_type: str,
        provenance: Provenance,
        neighbors: Sequence[Neighbor],
        mark: Embedded | None,
        *,
        whole: bool,
        timestamp: str | None,
    ) -> bytes:
        info = c2pa.C2paSignerInfo(
            alg=self._identity.algorithm.encode(),
            sign_cert=self._identity.chain,
            private_key=self._identity.key,
            ta_url=timestamp.encode() if timestamp else None,
        )
        signed = io.BytesIO()
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Builder(_text(_manifest(media_type, provenance, len(neighbors), mark)), context=context) as builder,
            c2pa.Signer.from_info(info) as signer,
        ):
            for index, neighbor in enumerate(neighbors):
                _add(builder, index, neighbor, whole=whole)
            builder.sign(signer, media_type, io.BytesIO(file), signed)
        return signed.getvalue()


def _manifest(media_type: str, provenance: Provenance, neighbors: int, mark: Embedded | None) -> dict[str, Any]:
    created: dict[str, Any] = {
        "action": "c2pa.created",
        "digitalSourceType": SOURCE_TYPE,
        "softwareAgent": {"name": provenance.cascade or SYSTEM},
    }
    if provenance.created is not None:
        created["when"] = datetime.fromtimestamp(provenance.created, UTC).isoformat()
    if neighbors:
        created["parameters"] = {"ingredientIds": [_label(index) for index in range(neighbors)]}
    actions, bindings = [created], []
    if mark is not None and mark.id is None:
        actions.append({"action": "c2pa.watermarked.unbound"})
    elif mark is not None:
        actions.append({"action": "c2pa.watermarked.bound"})
        # An empty scope is the whole image.
        blocks = [{"scope": {}, "value": f"{mark.id:08x}"}]
        bindings.append(_created(SOFT_BINDING, {"alg": ALGORITHM, "blocks": blocks}))
    return {
        "claim_generator_info": [{"name": SYSTEM, "version": version("reimagen-generator")}],
        "title": provenance.prompt,
        "format": media_type,
        "assertions": [
            _created("c2pa.actions.v2", {"actions": actions}),
            *bindings,
            _created(ASSERTION, asdict(provenance)),
        ],
    }


def _created(label: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return an assertion that the signer vouches for, in contrast to one that it only passes on."""
    return {"label": label, "data": data, "created": True}


def _label(index: int) -> str:
    return f"neighbor-{index}"


def _add(builder: c2pa.Builder, index: int, neighbor: Neighbor, *, whole: bool) -> None:
    thumbnail = _thumbnail(neighbor.image)
    name = f"{_label(index)}.jpg"
    about: dict[str, Any] = {"id": neighbor.id, "source": neighbor.source, "license": neighbor.license}
    if neighbor.cut_out:
        about["cut_out"] = True
    ingredient: dict[str, Any] = {
        "title": neighbor.caption,
        "relationship": "inputTo",
        "label": _label(index),
        "description": "; ".join(f"{key}: {value}" for key, value in about.items() if value),
        "thumbnail": {"format": "image/jpeg", "identifier": name},
    }
    if neighbor.source.startswith(("https://", "http://")):
        ingredient["informational_URI"] = neighbor.source
    builder.add_resource(name, io.BytesIO(thumbnail))
    media_type = media_type_of(neighbor.image) if whole else None
    if media_type is not None:
        try:
            builder.add_ingredient(_text(ingredient), media_type, io.BytesIO(neighbor.image))
        except c2pa.C2paError as error:
            _logger.warning("a neighbor's file has no readable manifest", extra={"reason": str(error)})
        else:
            return
    builder.add_ingredient(_text(ingredient), "image/jpeg", io.BytesIO(thumbnail))


def media_type_of(file: bytes) -> str | None:
    """Return the media type of a PNG, JPEG or WebP file, or None for other files."""
    if file.startswith(b"\x89PNG\r\n\x1a\n"):
        return MEDIA_TYPES["png"]
    if file.startswith(b"\xff\xd8\xff"):
        return MEDIA_TYPES["jpeg"]
    return MEDIA_TYPES["webp"] if file[:4] == b"RIFF" and file[8:12] == b"WEBP" else None


@cached(LRUCache(1024), key=lambda file: hashlib.sha256(file).digest(), lock=threading.Lock())
def _thumbnail(file: bytes) -> bytes:
    buffer = io.BytesIO()
    try:
        image = read_image(file, _THUMBNAIL_SIDE).rgb
    except ImageError as error:
        raise ReimagenError(f"a neighbor cannot be read: {error}") from error
    image.save(buffer, "JPEG", quality=_THUMBNAIL_QUALITY)
    return buffer.getvalue()


def _text(value: Mapping[str, Any]) -> str:
    """Return JSON without lone surrogates, which only Python allows."""
    return json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
