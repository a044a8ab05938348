"""The REST application."""

import time
from collections.abc import Sequence
from typing import Any, Final

from fastapi import Depends, FastAPI
from pydantic import BaseModel

from reimagen_common.access.guard import Guard
from reimagen_common.access.http import add_key_check
from reimagen_common.errors import NotFound
from reimagen_common.http_bodies import Bodies, BodyLimits
from reimagen_common.http_cors import add_cors
from reimagen_common.http_docs import add_docs
from reimagen_common.http_errors import register_error_handlers
from reimagen_common.http_openapi import Document, describe_api
from reimagen_common.http_origin import refusing_other_sites
from reimagen_common.operations import Health, operations_router
from reimagen_generator.api.http.files import FileStore
from reimagen_generator.api.http.images import images_router
from reimagen_generator.api.http.job_schema import JOB_EVENTS
from reimagen_generator.api.http.jobs import jobs_router
from reimagen_generator.api.http.knowledge import PAIRS_PATH, knowledge_router
from reimagen_generator.api.http.limits import BODY_BYTES, PAIRS_BYTES
from reimagen_generator.api.http.page import page_router
from reimagen_generator.api.http.schema import STREAM_EVENTS, ImagesRequest, Model, Models, StageData, StageGuidance
from reimagen_generator.api.http.uploads import uploads_router
from reimagen_generator.api.http.uses import uses_in, uses_router
from reimagen_generator.api.http.verify import verify_router
from reimagen_generator.api.rights import ROUTES
from reimagen_generator.engine.state import State
from reimagen_generator.generation.backend import StageDescription
from reimagen_generator.generation.knowledge import Knowledge
from reimagen_generator.generation.service import GenerationService
from reimagen_generator.generation.uploads import UploadStore
from reimagen_generator.generation.verification import Verifier
from reimagen_generator.jobs.service import JobService

_LINK_SECONDS: Final = 3_600
_LINK_BYTES: Final = 256 * 1024 * 1024

_DESCRIPTION: Final = """
Draws images that are grounded on the (image, caption) pairs of a knowledge base. `POST /v1/images/generations` and
`POST /v1/images/edits` are compatible with OpenAI's API: its clients work with the base URL `/v1`. The answer contains
the pairs in addition to the images, and each image file contains its provenance.
"""


def create_app(
    generator: GenerationService,
    guard: Guard,
    uploads: UploadStore,
    jobs: JobService | None,
    verifier: Verifier,
    *,
    deadline: float,
    body_seconds: float,
    base_url: str | None,
    cors_origins: Sequence[str] = (),
) -> FastAPI:
    """Create the application.

    Args:
        generator: The service that handles the requests.
        guard: The checks of keys.
        uploads: The store of uploaded images.
        jobs: The service of jobs, if they are stored.
        verifier: The reader of signed files.
        deadline: Time limit of a request in seconds.
        body_seconds: Time limit for receiving a body, see `BodyLimits`.
        base_url: The prefix of links. None uses the host of the request.
        cors_origins: The origins of pages that may use the service.
    """
    app = FastAPI(title="Re-Imagen", description=_DESCRIPTION, version="1", docs_url=None, redoc_url=None)
    add_docs(app)
    describe_api(
        app,
        rights=ROUTES if guard.requires_keys else None,
        models=(*STREAM_EVENTS, *JOB_EVENTS),
        adapt=lambda document: _restrict_to_model(document, generator),
    )
    limits = BodyLimits(
        maximum_bytes=BODY_BYTES,
        larger={PAIRS_PATH: PAIRS_BYTES},
        advice="send fewer or smaller references",
        uploads=generator.backend.slots,
        seconds=body_seconds,
    )
    app.add_middleware(Bodies, limits=limits)
    register_error_handlers(app)
    own_site = Depends(refusing_other_sites(base_url, cors_origins))
    files = FileStore(seconds=_LINK_SECONDS, maximum_bytes=_LINK_BYTES)
    app.include_router(images_router(generator, uploads, files, own_site, deadline=deadline, base_url=base_url))
    app.include_router(jobs_router(generator, uploads, jobs, base_url=base_url))
    app.include_router(uploads_router(uploads, own_site))
    knowledge = Knowledge(generator.retriever, generator.policy)
    find_uses = uses_in(jobs, files)
    app.include_router(knowledge_router(knowledge, find_uses, own_site, base_url=base_url))
    app.include_router(uses_router(find_uses))
    app.include_router(page_router())
    app.include_router(verify_router(verifier))
    app.include_router(operations_router(lambda: _health(generator, jobs)))
    described = generator.model
    model = Model(
        id=described.name,
        created=int(time.time()),
        sizes=[f"{size}x{size}" for size in described.sizes],
        default_k=described.default_k,
        maximum_k=described.maximum_k,
        stages=[_stage_data(stage) for stage in described.stages],
        unsupported=sorted(map(_field, described.unsupported)),
    )

    @app.get("/v1/models", tags=["models"])
    async def list_models() -> Models:
        """List the models that draw."""
        return Models(data=[model])

    @app.get("/v1/models/{name}", tags=["models"], responses={404: {"description": "No such model draws."}})
    async def read_model(name: str) -> Model:
        """Describe one model."""
        if name != model.id:
            raise NotFound(f"no model has the name {name!r}; the loaded one is {model.id!r}")
        return model

    add_key_check(app, guard, ROUTES)
    add_cors(app, cors_origins)
    return app


def _health(generator: GenerationService, jobs: JobService | None) -> Health:
    state = generator.backend.state
    if state is not State.READY:
        return Health(status=state.value)
    reasons = [generator.retriever.degraded_reason(), jobs and jobs.degraded_reason()]
    if not any(reasons):
        return Health(status=state.value)
    return Health(status="degraded", reasons=[reason for reason in reasons if reason])


def _stage_data(stage: StageDescription) -> StageData:
    used = ("strategy", "text_weight", "neighbor_weight", "interleave_ratio")
    guidance = stage.guidance.model_dump(include=set(used if stage.retrieval_conditioned else ("text_weight",)))
    return StageData(
        size=stage.size,
        steps=stage.steps,
        sampler=stage.sampler,
        sees_neighbors=stage.retrieval_conditioned,
        guided=stage.guided,
        guidance=StageGuidance(**guidance),
    )


def _restrict_to_model(document: Document, generator: GenerationService) -> None:
    """Restrict the OpenAPI document's sizes, models and k to those that the model supports."""
    schemas = document["components"]["schemas"]
    model, sizes = generator.model, generator.model.sizes
    sizes_in_words = {"type": "string", "enum": ["auto", *(f"{side}x{side}" for side in sizes)]}
    k, _ = schemas["Retrieval"]["properties"]["k"]["anyOf"]
    k["maximum"] = model.maximum_k
    for request in ("ImagesRequest", "JobRequest"):
        properties = schemas[request]["properties"]
        properties["size"]["anyOf"] = [
            sizes_in_words,
            {"type": "integer", "enum": list(sizes)},
            {"type": "null"},
        ]
        properties["model"]["anyOf"] = [{"const": model.name}, {"type": "null"}]
        references, _ = properties["references"]["anyOf"]
        references["maxItems"] = model.maximum_k
        properties |= {_field(name): _unset(name) for name in model.unsupported}
    form = document["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    form["properties"] |= {
        "size": form["properties"]["size"] | sizes_in_words,
        "model": form["properties"]["model"] | {"const": model.name},
        "image": form["properties"]["image"] | {"maxItems": model.maximum_k},
        "references": form["properties"]["references"] | {"maxItems": model.maximum_k},
    }
    form["anyOf"] = _at_most_together(model.maximum_k)
    for name in model.unsupported:
        del form["properties"][_field(name)]


def _at_most_together(most: int) -> list[dict[str, Any]]:
    """Return the alternatives of the edits form: `image` and `references` have at most that many items together."""
    with_images: list[dict[str, Any]] = [
        {"required": ["image"], "properties": {"image": {"maxItems": n}, "references": {"maxItems": most - n}}}
        for n in range(1, most + 1)
    ]
    return [*with_images, {"required": ["references"], "properties": {"image": False}}]


def _field(name: str) -> str:
    """Return the name in REST of a field of `GenerationRequest`."""
    return ImagesRequest.model_fields[name].alias or name


def _unset(name: str) -> dict[str, Any]:
    """Return the schema of a field that the model does not support."""
    default = ImagesRequest.model_fields[name].get_default()
    described = {"description": "Must be unset: the model that draws does not support it."}
    if isinstance(default, BaseModel):
        nulls = {each: {"type": "null"} for each in type(default).model_fields}
        empty = {"type": "object", "properties": nulls, "additionalProperties": False}
        return {"anyOf": [empty, {"type": "null"}], **described}
    return {"enum": list(dict.fromkeys([default, None])), **described}
