"""The routes of jobs."""

from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from reimagen_common.http_hosts import link
from reimagen_common.http_openapi import binary, event_stream
from reimagen_generator.api.http.admission import admitting_route
from reimagen_generator.api.http.drawing import check_model
from reimagen_generator.api.http.idempotency import IdempotencyKey
from reimagen_generator.api.http.job_answers import job_data, job_list
from reimagen_generator.api.http.job_events import JobStreams
from reimagen_generator.api.http.job_schema import JOB_EVENTS, JobData, JobList, JobRequest, Limit, StatusWord
from reimagen_generator.generation.owner import current_owner
from reimagen_generator.generation.service import GenerationService
from reimagen_generator.generation.uploads import UploadStore
from reimagen_generator.jobs.service import JobService, off
from reimagen_generator.jobs.store import Status

_LAST_ID: Final = 2**62

_MISSING: Final[dict[int | str, dict[str, Any]]] = {
    404: {"description": "There is no such job of yours, or it has expired, or the service keeps no jobs."}
}
_STORE: Final[dict[int | str, dict[str, Any]]] = {503: {"description": "The jobs cannot be read or written now."}}
_CREATING: Final[dict[int | str, dict[str, Any]]] = {
    422: {"description": "The `Idempotency-Key` was used for another request."},
    429: {"description": "Too many jobs are unfinished; `Retry-After` says when to retry."},
}
_EVENTS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Events of the job.", "content": {"text/event-stream": event_stream(JOB_EVENTS)}},
    204: {"description": "The job has ended, and there are no further events."},
    429: {"description": "Too many streams of events are open; `Retry-After` says when to retry."},
}
_IMAGE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The image file.", "content": binary("image/png", "image/jpeg", "image/webp")}
}

JobId = Annotated[str, Path(alias="id", min_length=1, description="Id of the job.")]


def jobs_router(
    generator: GenerationService, uploads: UploadStore, jobs: JobService | None, *, base_url: str | None
) -> APIRouter:
    """Return the routes of jobs.

    Args:
        generator: The service that draws.
        uploads: The store of uploaded images.
        jobs: The service of jobs. With None, all routes answer 404 and say why.
        base_url: The prefix of links. None uses the host of the request.
    """

    def service() -> JobService:
        if jobs is None:
            raise off()
        return jobs

    router = APIRouter(
        prefix="/v1",
        tags=["jobs"],
        route_class=admitting_route(lambda: service().admit()),
        responses=_MISSING | _STORE,
    )
    streams = JobStreams()

    @router.post("/jobs", status_code=202, response_model_exclude_none=True, responses=_CREATING)
    async def create_job(body: JobRequest, key: IdempotencyKey, request: Request, response: Response) -> JobData:
        """Store a job, which draws images in the background.

        The body is that of `/v1/images/generations`. When the answer arrives, the job is stored and survives
        a restart of the service.
        """
        check_model(body, generator)
        body = uploads.resolve(body, owner=current_owner())
        job = await run_in_threadpool(service().create, body, owner=current_owner(), key=key)
        response.headers["Location"] = link(request, base_url, "job", id=job.id)
        return job_data(job, partial(link, request, base_url))

    @router.get("/jobs", response_model_exclude_none=True)
    async def list_jobs(
        request: Request,
        limit: Limit = 20,
        after: Annotated[
            str | None, Query(min_length=1, description="Id of a job; only older jobs are returned.")
        ] = None,
        status: Annotated[StatusWord | None, Query(description="Return only jobs in this state.")] = None,
    ) -> JobList:
        """List your jobs, newest first."""
        page = await run_in_threadpool(
            service().page,
            owner=current_owner(),
            limit=limit,
            after=after,
            status=status and Status[status.upper()],
        )
        return job_list(page, partial(link, request, base_url))

    @router.get("/jobs/{id}", name="job", response_model_exclude_none=True)
    async def read_job(job_id: JobId, request: Request) -> JobData:
        """Return a job."""
        job = await run_in_threadpool(service().get, job_id, owner=current_owner())
        return job_data(job, partial(link, request, base_url))

    @router.delete("/jobs/{id}", response_model_exclude_none=True)
    async def cancel_job(job_id: JobId, request: Request) -> JobData:
        """Cancel a job and return it. A finished job stays as it is."""
        job = await run_in_threadpool(service().cancel, job_id, owner=current_owner())
        return job_data(job, partial(link, request, base_url))

    @router.get("/jobs/{id}/images/{index}", name="job_image", response_class=Response, responses=_IMAGE)
    async def read_job_image(
        job_id: JobId, index: Annotated[int, Path(ge=0, le=99, description="Index of the image, from 0.")]
    ) -> Response:
        """Return a finished image of a job."""
        image = await run_in_threadpool(service().image, job_id, index, owner=current_owner())
        return Response(image.image, media_type=image.media_type)

    @router.get("/jobs/{id}/events", response_class=Response, responses=_EVENTS)
    async def watch_job(
        job_id: JobId,
        request: Request,
        last_event_id: Annotated[
            int,
            Header(
                alias="Last-Event-ID",
                ge=0,
                le=_LAST_ID,
                description="Id of the last event that you have. Only later events are returned.",
            ),
        ] = 0,
    ) -> Response:
        """Return the events of a job as server-sent events: those that have happened, then further ones until it ends.

        Each event has an `id`. To continue after a broken connection, send it in the header `Last-Event-ID`, as
        browsers do.
        """
        return await streams.watch(
            service(),
            job_id,
            owner=current_owner(),
            after=last_event_id,
            link=partial(link, request, base_url),
        )

    return router
