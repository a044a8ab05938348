"""Hooks of schemathesis: images to send, and refusals of requests that OpenAPI cannot exclude."""

import base64
import io
import re
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

# Requests that are right by the document may still be refused with these words, and for no other reason.
BEYOND_THE_DOCUMENT = re.compile(
    r"(retrieval\.)?method: this knowledge base has no vectors"  # what the base has
    r"|(per_entity|relevance): requires method bm25"  # query parameters can't depend on each other
    r"|after: must be unset for random pairs"  # likewise
    r"|address: URL and headers must be at most"  # parameters together
    r"|sources: must have at most 1,000 bytes"  # characters are counted there
    r"|(caption|id|source|license): must be given [\d,]+( or [\d,]+)? times"  # lists of one length
    r"|image\[\d+\]: "  # all pairs were refused, the first for this reason
    r"|output_compression: must be 100 with PNG|partial_images: requires stream"  # fields of a form, too
    r"|image\.\d+: "  # what is in a file of a form
    r"|image: must be at most \d+ with cascade"  # the images and the references of a form together
    r"|Idempotency-Key: (was used for another request|requires stream)"
    r"|references\.\d+\.id: names no file of yours"
    r"|references\.\d+\.pair_id: no pair of the knowledge base"
    r"|id: names no file of yours|pair_id: no pair of the knowledge base"  # of a reference that is to be cut out
    r"|stages(\.\d+\.size)?: (must be one of|must name each size once|steps must not be set together)"
    r"|(stages\.\d+\.)?(sampler|guidance\.strategy): interleaved changes from step to step"
    r"|(stages\.\d+\.)?guidance\.(neighbor_weight|interleave_ratio): joint guidance has text_weight alone"
    r"|stages\.\d+\.guidance\.\w+: must be unset: the stage of"
    r"|file: (broken image|must be a whole|must be a file of)"
    r"|image: must be a PNG, JPEG or WebP file"  # what is in a file
    r"|references\.\d+\.image: must be a whole PNG"  # what is in a file
)

_STEPS, _FEW_STEPS = 1_000, 3


def _image(color: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 8), color).save(file, "PNG")
    return file.getvalue()


_IMAGES = st.builds(_image, st.tuples(*[st.integers(0, 255)] * 3))
schemathesis.openapi.media_type("image/png", _IMAGES)
schemathesis.openapi.format("image", _IMAGES.map(lambda file: base64.b64encode(file).decode()))


@schemathesis.hook  # type: ignore[untyped-decorator]
def filter_failure(context, failure, case, response) -> bool:  # type: ignore[no-untyped-def]
    """Return whether a failure counts."""
    if isinstance(failure, UseAfterFree):
        return "/v1/jobs/" not in response.request.url  # DELETE cancels a job, which stays until it expires.
    if not isinstance(failure, RejectedPositiveData):
        return True
    detail = response.json().get("detail", "")
    return not BEYOND_THE_DOCUMENT.match(detail)


@schemathesis.hook  # type: ignore[untyped-decorator]
def map_body(context: object, body: Any) -> Any:
    """Return a body with few steps: a thousand of them take minutes, and the number changes nothing else."""
    if isinstance(body, dict):
        stages = body["stages"] if isinstance(body.get("stages"), list) else []
        for each in (body, *stages):
            if isinstance(each, dict) and type(each.get("steps")) is int and 1 <= each["steps"] <= _STEPS:
                each["steps"] = 1 + each["steps"] % _FEW_STEPS
    return body
