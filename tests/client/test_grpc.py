"""Jobs over gRPC, and the asynchronous client of gRPC, at a real generator."""

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from reimagen.v1 import generation_pb2 as pb
from reimagen_client import Client, Image, NotFound, Preview, Progress, Retrieved, Unavailable
from reimagen_client.async_grpc_client import AsyncGrpcClient
from reimagen_client.errors import InvalidRequest
from reimagen_client.grpc_client import GrpcClient
from reimagen_client.models import Generation, JobEvent, JobImageDone, JobStatusChanged
from tests.client.conftest import PROMPT, Service


@pytest.fixture(scope="module")
def drawn(client: Client) -> Generation:
    return client.generate(PROMPT, seed=7, k=1, n=2)


def statuses(events: list[JobEvent]) -> list[str]:
    return [event.status for event in events if isinstance(event, JobStatusChanged)]


def test_a_job_over_grpc_is_the_same_as_over_rest(service: Service, client: Client, drawn: Generation) -> None:
    with GrpcClient(service.grpc) as ours:
        created = ours.jobs.create(PROMPT, seed=7, k=1, n=2, previews=1)
        events = list(ours.jobs.watch(created.id))
        assert statuses(events) == ["queued", "running", "completed"]
        assert {type(event) for event in events} == {JobStatusChanged, Retrieved, Progress, Preview, JobImageDone}
        job, same = ours.jobs.wait(created.id), client.jobs.get(created.id)
        by_rest = dict.fromkeys(("request", "neighbors", "images"))
        assert job.model_copy(update=by_rest) == same.model_copy(update=by_rest)
        assert [(one.index, one.seed) for one in job.images] == [(one.index, one.seed) for one in same.images]
        assert [one.id for one in job.neighbors] == [one.id for one in same.neighbors]
        assert (job.request["prompt"], job.request["seed"]) == (PROMPT, 7)
        assert ours.jobs.images(job) == drawn.images
        assert ours.jobs.image(job.id, 1) == drawn.images[1].content
        assert ours.jobs.cancel(job.id).status == "completed"
        assert job.id in {one.id for one in ours.jobs.list(status="completed").jobs}
        assert ours.jobs.list(limit=1, after=job.id).jobs != ours.jobs.list(limit=1).jobs
        for call in (lambda: ours.jobs.get("job_unknown"), lambda: ours.jobs.image(job.id, 9)):
            with pytest.raises(NotFound):
                call()
        with pytest.raises(InvalidRequest, match="limit"):
            ours.jobs.list(limit=-1)


def test_the_asynchronous_client_draws_the_same(service: Service, drawn: Generation) -> None:
    async def draw() -> tuple[Generation, list[str], tuple[Image, ...]]:
        async with AsyncGrpcClient(service.grpc) as client:
            found = await client.generate(PROMPT, seed=7, k=1, n=2)
            with pytest.raises(InvalidRequest) as raised:
                await client.generate(PROMPT, size=63)
            assert raised.value.field == "size"
            created = await client.jobs.create(PROMPT, seed=7, k=1, n=2)
            events = [event async for event in client.jobs.watch(created.id)]
            job = await client.jobs.wait(created.id)
            assert (await client.jobs.list(limit=1)).jobs[0].id == (await client.jobs.cancel(job.id)).id == job.id
            assert await client.jobs.image(job.id) == drawn.images[0].content
            return found, statuses(events), await client.jobs.images(job)

    found, words, images = asyncio.run(draw())
    assert (found.images, found.neighbors, found.seed) == (drawn.images, drawn.neighbors, drawn.seed)
    assert (words, images) == (["queued", "running", "completed"], drawn.images)


class Breaking:
    """A generator whose streams of events break off after one event each, and after the last one for good."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def watch(self, request: pb.WatchJobRequest, context: grpc.ServicerContext) -> Iterator[pb.JobEvent]:
        self.asked.append(request.after)
        if request.id == "short" and request.after == 2:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        ended = request.after == 2
        status = pb.JOB_STATUS_COMPLETED if ended else pb.JOB_STATUS_RUNNING
        yield pb.JobEvent(id=request.after + 1, status=status)
        if request.after == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")


@contextlib.contextmanager
def breaking() -> Iterator[tuple[Breaking, str]]:
    server, servicer = grpc.server(ThreadPoolExecutor(2)), Breaking()
    watch = grpc.unary_stream_rpc_method_handler(
        servicer.watch,
        request_deserializer=pb.WatchJobRequest.FromString,
        response_serializer=pb.JobEvent.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler("reimagen.v1.Generation", {"WatchJob": watch})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def test_watching_goes_on_after_the_last_event() -> None:
    async def watch(address: str, job_id: str) -> list[JobEvent]:
        async with AsyncGrpcClient(address, timeout=60) as client:
            return [event async for event in client.jobs.watch(job_id)]

    with breaking() as (servicer, address), GrpcClient(address, timeout=60) as client:
        for events in (list(client.jobs.watch("long")), asyncio.run(watch(address, "long"))):
            assert statuses(events) == ["running", "running", "completed"]
        assert servicer.asked == [0, 1, 2] * 2
        with pytest.raises(Unavailable, match="gone"):
            list(client.jobs.watch("short"))
        with pytest.raises(Unavailable, match="gone"):
            asyncio.run(watch(address, "short"))
