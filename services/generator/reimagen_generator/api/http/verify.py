"""The route that verifies image files."""

from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from reimagen_common.errors import InvalidArgument
from reimagen_generator.api.http.edits import read_form
from reimagen_generator.generation.owner import current_owner
from reimagen_generator.generation.provenance import Provenance
from reimagen_generator.generation.verification import FoundBy, Status, Verification, Verifier

_MIB: Final = 1024 * 1024
_LARGEST_FILE: Final = 32 * _MIB
_FORM: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "title": "VerifyForm",
                "properties": {
                    "image": {
                        "type": "string",
                        "contentMediaType": "application/octet-stream",
                        "description": "PNG, JPEG or WebP file of at most 32 MiB.",
                    },
                },
                "required": ["image"],
                "additionalProperties": False,
            }
        }
    },
}


class SignatureData(BaseModel):
    """The signature of a file."""

    status: Status = Field(
        description="`trusted`: valid, and the signer is of a trusted authority. `untrusted`: valid, but anyone could "
        "have made the certificate. `invalid`: the file was changed, or the signature is damaged or has expired. "
        "`absent`: the file is not signed."
    )
    signer: str | None = Field(description="Name and organization that the certificate states.")
    time: str | None = Field(description="Time that an authority of time stamps states for the signature, RFC 3339.")
    reason: str | None = Field(description="Reason, if the status is not `trusted`.")


class NeighborOrigin(BaseModel):
    """A neighbor that an image was grounded on, as its file names it."""

    id: str | None = Field(description="Id in the knowledge base; null for a reference of the request.")
    caption: str = Field(description="Caption of the neighbor.")
    source: str = Field(description="Origin of the neighbor; empty when unknown.")
    license: str = Field(description="SPDX identifier or name of the license; empty when unknown.")
    weight: float = Field(
        description="Factor of its share of the attention to the neighbors; 1 unless the request set it."
    )
    cut_out: bool = Field(description="Whether the image was grounded on the neighbor's object alone, cut out.")


class Generation(BaseModel):
    """How an image was drawn."""

    prompt: str = Field(description="Prompt of the request.")
    seed: int | None = Field(description="Seed of the image; null if its model has no seeds.")
    model: str = Field(description="Name of the model.")
    created: int | None = Field(description="Time of drawing, in seconds since 1970; null if the file does not say.")
    request: dict[str, Any] = Field(
        description="Body for `POST /v1/images/generations` that draws the image again, or another one if the model "
        "has no seeds. If the request had references, "
        "add their images: the file does not contain them."
    )
    neighbors: list[NeighborOrigin] = Field(description="Neighbors that the image was grounded on, best first.")


class WatermarkData(BaseModel):
    """The watermark that was found in the pixels of an image."""

    id: str | None = Field(
        description="Id of the image, 8 hexadecimal digits; null if it cannot be read, as in images of 64 pixels."
    )
    score: float = Field(description="How clear the mark is, in standard deviations of unmarked images: about 5 to 25.")


class SoftBindingData(BaseModel):
    """A watermark or fingerprint that the manifest states (C2PA's soft binding)."""

    algorithm: str = Field(description="Name of the algorithm; `reimagen.watermark.1` is this software's watermark.")
    value: str = Field(description="Id or fingerprint, as the algorithm writes it.")


class VerifyAnswer(BaseModel):
    """What an image file reveals about its origin."""

    signature: SignatureData = Field(description="Signature of the file's C2PA manifest.")
    tampered: bool | None = Field(
        description="Whether the file was changed after it was signed; null if it is not signed."
    )
    generation: Generation | None = Field(
        description="How the image was drawn; null if neither the file nor the log of images says it. Anyone can write "
        "this into an unsigned file, or sign it with a certificate of their own: rely on what a file says only if "
        "`signature` is `trusted`."
    )
    watermark: WatermarkData | None = Field(
        description="Watermark that this software embeds; null if the image has none, or it was destroyed. It is not "
        "secret: anyone can copy it onto other images."
    )
    soft_bindings: list[SoftBindingData] = Field(
        description="Watermarks and fingerprints that the manifest states. Empty if the file has no valid signature, "
        "or if the image is too small for an id."
    )
    found_by: FoundBy | None = Field(
        description="Where `generation` was found. `metadata`: in the file. `watermark`: in the service's log, by the "
        "id in the watermark. `fingerprint`: in the log, as the most similar image. The log tells each API key about "
        "the images that it drew, and about no others. An image that was found in it may have been changed since."
    )


def verify_router(verifier: Verifier) -> APIRouter:
    """Return the route that verifies image files."""
    router = APIRouter(prefix="/v1/verify", tags=["verification"])

    @router.post("", openapi_extra={"requestBody": _FORM})
    async def verify_image(request: Request) -> VerifyAnswer:
        """Tell how an image was drawn, who signed its file, whether it was changed since, and what its watermark says.

        An image without metadata is sought in the log of images that the same API key drew. The file is not stored, and
        nothing that it links to is fetched.
        """
        # One more than is allowed, so that the error names the field.
        form = await read_form(request, files=2)
        try:
            items = form.multi_items()
            for name, _ in items:
                if name != "image":
                    raise InvalidArgument("is unknown; send one file in the field image", field=name)
            if len(items) != 1:
                raise InvalidArgument(f"must be given once, got {len(items)}", field="image")
            ((_, file),) = items
            if not isinstance(file, UploadFile):
                raise InvalidArgument("must be a file", field="image")
            if (file.size or 0) > _LARGEST_FILE:
                raise InvalidArgument(
                    f"must be a file of at most {_LARGEST_FILE:,} bytes, got {file.size:,}", field="image"
                )
            content = await file.read()
        finally:
            await form.close()
        return _answer(await run_in_threadpool(partial(verifier.verify, content, owner=current_owner())))

    return router


def _answer(verification: Verification) -> VerifyAnswer:
    signature, origin, mark = verification.signature, verification.provenance, verification.mark
    return VerifyAnswer(
        signature=SignatureData(
            status=signature.status, signer=signature.signer, time=signature.time, reason=signature.reason
        ),
        tampered=verification.tampered,
        generation=None if origin is None else _generation(origin),
        watermark=mark and WatermarkData(id=None if mark.id is None else f"{mark.id:08x}", score=round(mark.score, 1)),
        soft_bindings=[
            SoftBindingData(algorithm=binding.algorithm, value=binding.value) for binding in verification.soft_bindings
        ],
        found_by=verification.found_by,
    )


def _generation(origin: Provenance) -> Generation:
    return Generation(
        prompt=origin.prompt,
        seed=origin.seed,
        model=origin.cascade,
        created=origin.created,
        request=origin.to_request(),
        neighbors=[
            NeighborOrigin(
                id=neighbor.id or None,
                caption=neighbor.caption,
                source=neighbor.source,
                license=neighbor.license,
                weight=neighbor.weight,
                cut_out=neighbor.cut_out,
            )
            for neighbor in origin.neighbors
        ],
    )
