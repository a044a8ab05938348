"""Jobs over gRPC."""

from typing import Any

import grpc
import pytest

from reimagen.v1 import generation_pb2 as pb
from reimagen_generator.jobs.service import JobService

SECONDS = 240
REQUEST = pb.GenerateRequest(prompt="a red panda", size=16, retrieval=pb.GenerateRequest.Retrieval(k=0))


def create(service: Any, key: str = "", **fields: Any) -> pb.Job:
    request = pb.GenerateRequest(**fields)
    request.MergeFrom(REQUEST)
    job: pb.Job = service.generation.CreateJob(pb.CreateJobRequest(request=request, idempotency_key=key))
    return job


def watch(service: Any, job_id: str, after: int = 0) -> list[pb.JobEvent]:
    return list(service.generation.WatchJob(pb.WatchJobRequest(id=job_id, after=after), timeout=SECONDS))


def test_a_job_draws_what_a_request_draws(served: Any) -> None:
    guidance = pb.Guidance(strategy=pb.Guidance.STRATEGY_INTERLEAVED, text_weight=2)
    job = create(served, n=2, seed=7, guidance=guidance, output_format=pb.OUTPUT_FORMAT_WEBP)
    assert job.status in (pb.JOB_STATUS_QUEUED, pb.JOB_STATUS_RUNNING)
    assert (job.request.guidance, job.request.seed, job.request.n) == (guidance, 7, 2)
    events = watch(served, job.id)
    assert [event.WhichOneof("event") for event in events] == [
        *("status", "status", "neighbors"),
        *(("progress", "progress", "image") * 2),
        "status",
    ]
    assert events[-1].status == pb.JOB_STATUS_COMPLETED
    assert watch(served, job.id, after=events[3].id) == events[4:]
    assert watch(served, job.id, after=events[-1].id) == []
    done = served.generation.GetJob(pb.GetJobRequest(id=job.id, with_images=True))
    direct = list(served.generation.Generate(job.request, timeout=SECONDS))
    assert list(done.images) == [event.image for event in direct if event.HasField("image")]
    assert (done.usage.steps, done.neighbors.text_only) == (4, True)
    assert served.generation.GetJob(pb.GetJobRequest(id=job.id)).images[0].image == b""


def test_references_are_told_by_their_captions(served: Any) -> None:
    job = create(served, quality=pb.QUALITY_HIGH, user="someone")
    assert (job.request.quality, job.request.user, job.request.output_format) == (
        pb.QUALITY_HIGH,
        "someone",
        pb.OUTPUT_FORMAT_PNG,
    )
    watch(served, job.id)


def test_jobs_are_listed_and_cancelled(served: Any) -> None:
    jobs = [create(served) for _ in range(3)]
    for job in jobs:
        watch(served, job.id)
    page = served.generation.ListJobs(pb.ListJobsRequest(limit=2))
    assert [job.id for job in page.jobs] == [jobs[2].id, jobs[1].id]
    page = served.generation.ListJobs(pb.ListJobsRequest(after=jobs[1].id, status=pb.JOB_STATUS_COMPLETED))
    assert page.jobs[0].id == jobs[0].id
    cancelled = served.generation.CancelJob(pb.CancelJobRequest(id=jobs[0].id))
    assert cancelled.status == pb.JOB_STATUS_COMPLETED


def test_a_running_job_is_cancelled(endless: Any) -> None:
    job = create(endless)
    for event in endless.generation.WatchJob(pb.WatchJobRequest(id=job.id), timeout=SECONDS):
        if event.HasField("progress"):
            assert endless.generation.CancelJob(pb.CancelJobRequest(id=job.id)).status == pb.JOB_STATUS_CANCELLED
            break
    assert watch(endless, job.id)[-1].status == pb.JOB_STATUS_CANCELLED


def test_a_key_makes_one_job(served: Any) -> None:
    job = create(served, key="key of grpc".replace(" ", "-"))
    assert create(served, key="key-of-grpc").id == job.id
    with pytest.raises(grpc.RpcError) as refused:
        create(served, key="key-of-grpc", n=2)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_bad_input_is_named(served: Any) -> None:
    calls: list[tuple[Any, Any, grpc.StatusCode, str]] = [
        (served.generation.GetJob, pb.GetJobRequest(id="none"), grpc.StatusCode.NOT_FOUND, "id: "),
        (served.generation.CancelJob, pb.CancelJobRequest(id="none"), grpc.StatusCode.NOT_FOUND, "id: "),
        (served.generation.ListJobs, pb.ListJobsRequest(limit=101), grpc.StatusCode.INVALID_ARGUMENT, "limit: "),
        (
            served.generation.ListJobs,
            pb.ListJobsRequest(status=pb.JobStatus.ValueType(99)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "status: ",
        ),
        (served.generation.CreateJob, pb.CreateJobRequest(), grpc.StatusCode.INVALID_ARGUMENT, "prompt: "),
        (
            served.generation.CreateJob,
            pb.CreateJobRequest(request=REQUEST, idempotency_key="a b"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "idempotency_key: ",
        ),
    ]
    for call, request, code, begin in calls:
        with pytest.raises(grpc.RpcError) as refused:
            call(request)
        assert (refused.value.code(), str(refused.value.details()).startswith(begin)) == (code, True)
    with pytest.raises(grpc.RpcError) as refused:
        watch(served, "none")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_watcher_gets_the_end_of_a_job_that_ends_after_its_events_are_read(
    endless: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = JobService.events

    def then_cancelled(jobs: JobService, job_id: str, *, owner: str, after: int) -> list[pb.JobEvent]:
        events = read(jobs, job_id, owner=owner, after=after)
        if not events:
            jobs.cancel(job_id, owner=owner)
        return events

    monkeypatch.setattr(JobService, "events", then_cancelled)
    assert watch(endless, create(endless).id)[-1].status == pb.JOB_STATUS_CANCELLED


def test_too_many_watchers_are_refused(endless: Any) -> None:
    job = create(endless)
    request = pb.WatchJobRequest(id=job.id)
    calls = [endless.generation.WatchJob(request, timeout=SECONDS) for _ in range(8)]
    for call in calls:
        next(call)
    with pytest.raises(grpc.RpcError) as refused:
        watch(endless, job.id)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    endless.generation.CancelJob(pb.CancelJobRequest(id=job.id))
    for call in calls:
        assert list(call)[-1].status == pb.JOB_STATUS_CANCELLED
