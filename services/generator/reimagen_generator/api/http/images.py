"""The routes POST /v1/images/generations and /v1/images/edits, and the routes of linked images."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response, params
from starlette.concurrency import run_in_threadpool

from reimagen_common.http_openapi import binary, event_stream
from reimagen_common.http_paths import ID_PATH
from reimagen_generator.api.http.admission import admitting_route
from reimagen_generator.api.http.answers import base64_of
from reimagen_generator.api.http.drawing import Drawer
from reimagen_generator.api.http.edits import form_fields, read_edit
from reimagen_generator.api.http.files import FileStore
from reimagen_generator.api.http.form_schema import EDIT_FORM
from reimagen_generator.api.http.idempotency import IdempotencyKey
from reimagen_generator.api.http.schema import STREAM_EVENTS, CutOutData, ImagesRequest, ImagesResponse
from reimagen_generator.generation.owner import current_owner
from reimagen_generator.generation.request_parts import Reference
from reimagen_generator.generation.service import GenerationService
from reimagen_generator.generation.uploads import UploadStore

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The images. With `stream`, server-sent events whose types begin with `image_generation.`, or "
        "`image_edit.` for edits: one `neighbors`, one `progress` for each step, up to `partial_images` times "
        "`partial_image`, and one `completed` for each image as soon as it is finished. An error during the stream "
        "ends it with an event `error`.",
        "content": {"text/event-stream": event_stream(STREAM_EVENTS)},
    },
    409: {"description": "A request with the same `Idempotency-Key` is still handled."},
    422: {"description": "The `Idempotency-Key` was used for another request."},
    503: {"description": "The service is starting or stopping, or the retriever does not answer."},
    504: {"description": "The images were not finished before the deadline."},
}
_IMAGE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The image file.", "content": binary("image/png", "image/jpeg", "image/webp")}
}
_OTHER_SITE: Final[dict[int | str, dict[str, Any]]] = {
    403: {"description": "The request comes from a page of another site."}
}
_MISSING: Final[dict[int | str, dict[str, Any]]] = {404: {"description": "No such image, or it has expired."}}
_RETRIEVER: Final[dict[int | str, dict[str, Any]]] = {503: {"description": "The retriever does not answer."}}


def images_router(
    generator: GenerationService,
    uploads: UploadStore,
    files: FileStore,
    own_site: params.Depends,
    *,
    deadline: float,
    base_url: str | None,
) -> APIRouter:
    """Return the routes of the images. A request may take `deadline` seconds; links begin with `base_url`."""
    router = APIRouter(prefix="/v1", tags=["images"], route_class=admitting_route(generator.backend.refuse_if_full))
    drawer = Drawer(generator, uploads, files, deadline=deadline, base_url=base_url)

    @router.post(
        "/images/generations", response_model=ImagesResponse, response_model_exclude_none=True, responses=_ANSWERS
    )
    async def create_images(body: ImagesRequest, key: IdempotencyKey, request: Request) -> ImagesResponse | Response:
        """Draw images of a prompt, grounded on pairs of the knowledge base.

        The body has OpenAI's fields, and those of retrieval and drawing, such as `seed`, `retrieval`, `guidance` and
        `references`. Other fields are rejected.
        Closing the connection cancels the request.
        """
        return await drawer.draw(body, key, request)

    @router.post(
        "/images/edits",
        response_model=ImagesResponse,
        response_model_exclude_none=True,
        responses=_ANSWERS | _OTHER_SITE,
        dependencies=[own_site],
        openapi_extra={"requestBody": EDIT_FORM},
    )
    async def edit_images(key: IdempotencyKey, request: Request) -> ImagesResponse | Response:
        """Draw images of a prompt, grounded on the images of the form in place of pairs of the knowledge base.

        The form has the fields of `/v1/images/generations`, with numbers and objects as JSON, and the images.
        """
        body, images = await read_edit(request)
        with form_fields(images):
            return await drawer.draw(body, key, request)

    @router.post("/images/cut-outs", response_model_exclude_none=True, responses=_RETRIEVER)
    async def cut_out(body: Reference) -> CutOutData:
        """Cut the object of a reference out, as a request for images with `cut_out` would use it.

        The body is a reference; its `weight` and `cut_out` are ignored.
        """
        reference = uploads.resolve_one(body, owner=current_owner())
        used = await run_in_threadpool(generator.cut_out, reference)
        return CutOutData(b64_json=base64_of(used.image) if used.cut_out else None, warning=used.warning or None)

    @router.get("/images/files/{name}", name="file", response_class=Response, responses=_IMAGE | _MISSING)
    async def read_file(name: str) -> Response:
        """Return an image that an answer links to. Where keys are required, it needs the same key."""
        stored = files.get(name, owner=current_owner())
        return Response(stored.content, media_type=stored.media_type)

    @router.get(
        f"/pairs/{ID_PATH}/image",
        name="pair_image",
        tags=["knowledge base"],
        response_class=Response,
        responses=_IMAGE | _MISSING | _RETRIEVER,
    )
    async def read_pair_image(
        pair_id: Annotated[str, Path(alias="id", min_length=1, description="Id of the pair.")],
    ) -> Response:
        """Return the image of a pair of the knowledge base."""
        image, media_type = await run_in_threadpool(generator.retriever.pair_image, pair_id)
        return Response(image, media_type=media_type)

    return router
