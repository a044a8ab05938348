"""The form of POST /v1/images/edits: images with captions, and the fields of a request for images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, StrictBool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from reimagen_common.errors import InvalidArgument
from reimagen_generator.api.http.forms import field_values, parse_fields
from reimagen_generator.api.http.schema import EditsRequest
from reimagen_generator.generation.request import NEIGHBORS
from reimagen_generator.generation.request_parts import REFERENCE_BYTES

_IMAGE_FIELDS: Final = ("image", "image[]")
_FORM_FIELDS: Final = {
    "image": "image",
    "caption": "reference_captions",
    "weight": "reference_weights",
    "cut_out": "reference_cut_outs",
}
"""The fields of the form by the field of the reference that they become."""
_MASKS: Final = ("mask", "markup")
# More than the fields and the longest lists need.
_TEXTS: Final = 1_000
_TEXT_BYTES: Final = 1024 * 1024
_BAD_REQUEST: Final = 400

_Value = TypeVar("_Value")


async def read_form(request: Request, *, files: int) -> FormData:
    """Receive a multipart form. The caller closes it.

    Args:
        request: The HTTP request.
        files: Maximum number of files.

    Raises:
        InvalidArgument: The body is not such a form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise InvalidArgument("send a form with Content-Type: multipart/form-data", field="body")
    try:
        return await request.form(max_files=files, max_fields=_TEXTS, max_part_size=_TEXT_BYTES)
    except HTTPException as error:
        if error.status_code != _BAD_REQUEST:
            raise
        raise InvalidArgument(f"is not a multipart form: {error.detail}", field="body") from error


async def read_edit(request: Request) -> tuple[EditsRequest, int]:
    """Receive the form of a request for edits. Return it, and the number of its references that are in the form.

    Raises:
        InvalidArgument: A field is invalid. The error names the first one.
    """
    # One more than is allowed, so that the error counts images.
    form = await read_form(request, files=NEIGHBORS + 1)
    try:
        images, of_images, texts = await _sort(form)
    finally:
        await form.close()
    by_id = [(name, text) for name, text in texts if name == "references"]
    others = [(name, text) for name, text in texts if name != "references"]
    if len(images) > NEIGHBORS or not (images or by_id):
        raise InvalidArgument(f"must be given 1 to {NEIGHBORS} times, got {len(images)}", field="image")
    given = parse_fields(of_images, _OfImages)
    prompt = next((text for name, text in others if name == "prompt"), "")
    captions = _spread("reference_captions", given.reference_captions or (prompt,), len(images))
    weights = _spread("reference_weights", given.reference_weights or (1.0,), len(images))
    cut_outs = _spread("reference_cut_outs", given.reference_cut_outs or (False,), len(images))
    references: Any = field_values(by_id, EditsRequest).get("references") or []
    with form_fields(len(images)):
        pairs = [
            {"image": image, "caption": caption, "weight": weight, "cut_out": cut_out}
            for image, caption, weight, cut_out in zip(images, captions, weights, cut_outs, strict=True)
        ]
        together = [*pairs, *references] if isinstance(references, list) else references
        return parse_fields(others, EditsRequest, references=together), len(images)


async def _sort(form: FormData) -> tuple[list[bytes], list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the images, the fields about the images, and the other fields of a form."""
    images: list[bytes] = []
    of_images: list[tuple[str, str]] = []
    texts: list[tuple[str, str]] = []
    for name, value in form.multi_items():
        if name in _MASKS:
            raise InvalidArgument(
                "is not supported: the cascade draws whole images; describe the change in the prompt", field=name
            )
        if name in _IMAGE_FIELDS:
            images.append(await _read_image(value, number=len(images)))
        elif isinstance(value, UploadFile):
            raise InvalidArgument("must be text, got a file; send images in the field image", field=name)
        elif name.partition("[")[0] in _OfImages.model_fields:
            of_images.append((name, value))
        else:
            texts.append((name, value))
    return images, of_images, texts


@contextmanager
def form_fields(images: int) -> Iterator[None]:
    """Name the fields of the form, not of the request that it becomes, in errors.

    Args:
        images: Number of images in the form, which are the first references of the request.
    """
    try:
        yield
    except InvalidArgument as error:
        outer, *inner = (error.field or "").split(".")
        if outer != "references":
            raise
        message = error.message.removeprefix(f"{error.field}: ")
        if not inner:
            raise type(error)(message, field="image" if images else "references") from error
        number = int(inner[0])
        if number >= images:
            field = ".".join(("references", str(number - images), *inner[1:]))
        else:
            field = f"{_FORM_FIELDS[inner[1]]}.{number}"
        raise type(error)(message, field=field) from error


class _OfImages(BaseModel):
    reference_captions: tuple[str, ...] = ()
    reference_weights: tuple[float, ...] = ()
    reference_cut_outs: tuple[StrictBool, ...] = ()


def _spread(field: str, values: Sequence[_Value], count: int) -> list[_Value]:
    """Return one value for each image, of values that are given once or for each."""
    if len(values) not in (1, count):
        raise InvalidArgument(f"must be given once or {count} times, as often as image; got {len(values)}", field=field)
    return list(values) * count if len(values) == 1 else list(values)


async def _read_image(value: UploadFile | str, *, number: int) -> bytes:
    if isinstance(value, str):
        raise InvalidArgument("must be a file; send the form as multipart/form-data", field=f"image.{number}")
    if not 1 <= (value.size or 0) <= REFERENCE_BYTES:
        raise InvalidArgument(
            f"must be a file of 1 to {REFERENCE_BYTES:,} bytes, got {value.size or 0:,}", field=f"image.{number}"
        )
    return await value.read()
