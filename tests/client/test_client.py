"""The clients over REST and gRPC, against a real generator and retriever."""

import asyncio
import contextlib
from collections.abc import Callable
from inspect import Parameter, getmembers, isfunction, signature
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reimagen_client import (
    AsyncClient,
    Client,
    CutOut,
    Done,
    Generation,
    InvalidRequest,
    NotFound,
    Progress,
    Retrieved,
    Unavailable,
)
from reimagen_client.async_client import AsyncFiles, AsyncJobs, AsyncKnowledge
from reimagen_client.async_grpc_client import AsyncGrpcClient, AsyncGrpcJobs
from reimagen_client.client import Files, Jobs, Knowledge
from reimagen_client.grpc_client import GrpcClient, GrpcJobs
from reimagen_client.models import Event, JobImageDone, JobStatusChanged, Preview
from reimagen_client.options import Reference
from reimagen_client.provenance import inspect
from tests.client.conftest import PROMPT, Service, png
from tests.waiting import wait_until


def kinds(events: list[Event]) -> list[str]:
    """Return the names of the kinds of events, each kind once, in order."""
    return list(dict.fromkeys(type(event).__name__ for event in events))


@pytest.fixture(scope="module")
def drawn(client: Client) -> Generation:
    return client.generate(PROMPT, seed=7, k=1, n=2)


def test_images_are_drawn_and_name_their_neighbors(drawn: Generation, tmp_path: Path) -> None:
    assert [image.seed for image in drawn.images] == [7, 8]
    assert [(found.id, found.caption, found.license) for found in drawn.neighbors] == [("fox/1?", "a red fox", "MIT")]
    assert drawn.neighbors[0].image == png((0, 120, 40))
    assert drawn.usage
    assert drawn.usage.steps
    paths = [image.save(tmp_path) for image in drawn.images] + [drawn.images[0].save(tmp_path)]
    assert [path.name for path in paths] == [
        f"a-red-fox-in-the-snow-{end}.png" for end in ("7", "8", "7-2")
    ]  # A file of the same name is kept.
    origin = inspect(paths[1])
    assert (origin.prompt, origin.seed, origin.cascade) == (PROMPT, 8, drawn.cascade)
    assert [found.id for found in origin.neighbors] == ["fox/1?"]


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_the_provenance_of_each_format_is_read(client: Client, tmp_path: Path, output_format: str) -> None:
    (image,) = client.generate(PROMPT, seed=7, output_format=output_format).images  # type: ignore[arg-type]
    assert image.media_type == f"image/{output_format}"
    assert inspect(image.save(tmp_path)).prompt == PROMPT


def test_the_provenance_names_weights_and_settings(client: Client, reference: Path, tmp_path: Path) -> None:
    references: list[Reference | str | Path] = [Reference(pair_id="kea", weight=2), reference]
    (image,) = client.generate("a robot", references=references, steps=3).images
    origin = inspect(image.save(tmp_path))
    assert [neighbor.weight for neighbor in origin.neighbors] == [2, 1]
    assert (origin.references, origin.settings) == (True, {"steps": 3})
    verified = client.verify(image.content).generation
    assert verified
    assert verified.request["references"] == [{"pair_id": "kea", "weight": 2}, {"caption": "a robot"}]


def test_a_stream_has_the_same_images_and_each_step(client: Client, drawn: Generation) -> None:
    events = list(client.stream(PROMPT, seed=7, k=1, n=2, previews=1))
    assert kinds(events)[0] == "Retrieved"
    assert set(kinds(events)) == {"Retrieved", "Progress", "Preview", "Done"}
    images = [event.image for event in events if isinstance(event, Done)]
    assert sorted(images, key=lambda image: image.index) == list(drawn.images)
    (preview,) = [event for event in events if isinstance(event, Preview)]
    assert preview.content.startswith(b"\x89PNG")
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert last.step == last.steps


def test_the_asynchronous_client_draws_the_same(service: Service, drawn: Generation) -> None:
    async def draw() -> tuple[Generation, list[Event]]:
        async with AsyncClient(service.base_url) as client:
            async with asyncio.TaskGroup() as tasks:
                found = tasks.create_task(client.generate(PROMPT, seed=7, k=1, n=2))
                events = [event async for event in client.stream(PROMPT, seed=7, k=1, n=2)]
            return found.result(), events

    found, events = asyncio.run(draw())
    assert found.images == drawn.images
    assert {event.image.content for event in events if isinstance(event, Done)} == {
        image.content for image in drawn.images
    }


def test_the_grpc_client_draws_the_same(service: Service, drawn: Generation) -> None:
    with GrpcClient(service.grpc) as client:
        found = client.generate(PROMPT, seed=7, k=1, n=2)
        assert (found.images, found.neighbors, found.seed) == (drawn.images, drawn.neighbors, drawn.seed)
        events = list(client.stream(PROMPT, seed=7, retrieval={"k": 1, "method": "bm25"}, previews=1))
        assert set(kinds(events)) == {"Retrieved", "Progress", "Preview", "Done"}
        with pytest.raises(InvalidRequest) as raised:
            client.generate(PROMPT, size=63)
        assert raised.value.field == "size"


def test_references_take_the_place_of_neighbors(client: Client, service: Service, reference: Path) -> None:
    uploaded = client.files.upload(reference)
    given: list[Reference | str | Path] = [
        reference,
        Reference(image=png((9, 9, 200)), caption="a blue cube"),
        Reference(id=uploaded.id),
    ]
    answer = client.generate("a robot", seed=1, references=given)
    assert [found.caption for found in answer.neighbors] == ["a robot", "a blue cube", "a robot"]
    with GrpcClient(service.grpc) as grpc_client:
        assert grpc_client.generate("a robot", seed=1, references=given[:2]).neighbors == answer.neighbors[:2]
    assert uploaded.id in {file.id for file in client.files.list()}
    assert client.files.get(uploaded.id).size == len(reference.read_bytes())
    client.files.delete(uploaded.id)
    with pytest.raises(NotFound):
        client.files.get(uploaded.id)


def test_references_are_cut_out(client: Client, service: Service, disc: Path, tmp_path: Path) -> None:
    cut = client.cut_out(disc)
    assert cut.image is not None
    assert cut.warning is None
    given = [Reference(image=disc, caption="a disc", cut_out=True)]
    answer = client.generate("a disc", seed=1, references=given)
    assert [(found.cut_out, found.image) for found in answer.neighbors] == [(True, cut.image)]
    assert [found.cut_out for found in inspect(answer.images[0].save(tmp_path)).neighbors] == [True]
    plain = png((0, 90, 90))
    warning = client.cut_out(plain).warning
    assert warning == "no object was found in the image, so it is used as it is"
    with GrpcClient(service.grpc) as grpc_client:
        assert grpc_client.cut_out(disc) == cut
        assert grpc_client.cut_out(plain).warning == warning
        assert grpc_client.generate("a disc", seed=1, references=given).neighbors == answer.neighbors


def test_the_asynchronous_clients_cut_out_the_same(client: Client, service: Service, disc: Path) -> None:
    async def cut() -> list[CutOut]:
        async with AsyncClient(service.base_url) as rest, AsyncGrpcClient(service.grpc) as grpc:
            return [await rest.cut_out(disc), await grpc.cut_out(disc)]

    assert asyncio.run(cut()) == 2 * [client.cut_out(disc)]


def test_a_stream_reads_captions_with_any_separator(client: Client, service: Service, reference: Path) -> None:
    caption = "a\u2028red\x85robot"
    references: list[Reference | str | Path] = [Reference(image=reference, caption=caption)]
    found, *_ = client.stream("a robot", seed=1, references=references)
    assert isinstance(found, Retrieved)

    async def first() -> Event:
        async with AsyncClient(service.base_url) as client:
            found, *_ = [event async for event in client.stream("a robot", seed=1, references=references)]
            return found

    assert asyncio.run(first()) == found
    assert [neighbor.caption for neighbor in found.neighbors] == [caption]


def parameters(part: type) -> dict[str, list[str]]:
    """Return the parameters of each public method, without their types."""
    return {
        name: [str(one.replace(annotation=Parameter.empty)) for one in signature(method).parameters.values()]
        for name, method in getmembers(part, isfunction)
        if name == "__init__" or not name.startswith("_")
    }


@pytest.mark.parametrize(
    ("part", "asynchronous"),
    [
        (Client, AsyncClient),
        (Jobs, AsyncJobs),
        (Files, AsyncFiles),
        (Knowledge, AsyncKnowledge),
        (GrpcClient, AsyncGrpcClient),
        (GrpcJobs, AsyncGrpcJobs),
        (Jobs, GrpcJobs),
    ],
)
def test_both_clients_have_the_same_methods(part: type, asynchronous: type) -> None:
    assert parameters(part) == parameters(asynchronous)


def test_an_invalid_field_is_named(client: Client) -> None:
    with pytest.raises(InvalidRequest) as raised:
        client.generate(PROMPT, size=63)
    assert (raised.value.field, raised.value.status) == ("size", 400)
    with pytest.raises(InvalidRequest, match="partial_images"):
        list(client.stream(PROMPT, previews=9))


def test_a_job_is_watched_to_its_end(client: Client, drawn: Generation) -> None:
    job = client.jobs.create(PROMPT, seed=7, k=1, n=2, previews=1)
    events = list(client.jobs.watch(job.id))
    assert [event.status for event in events if isinstance(event, JobStatusChanged)][-1] == "completed"
    assert sum(isinstance(event, JobImageDone) for event in events) == 2
    assert any(isinstance(event, Retrieved) for event in events)
    ended = client.jobs.wait(job.id)
    assert ended.ended
    assert client.jobs.images(ended) == drawn.images
    assert client.jobs.cancel(job.id).status == "completed"
    assert job.id in {one.id for one in client.jobs.list(status="completed").jobs}
    with pytest.raises(NotFound):
        client.jobs.get("job_unknown")


def test_a_job_is_watched_by_the_asynchronous_client(service: Service) -> None:
    async def watch() -> list[str]:
        async with AsyncClient(service.base_url) as client:
            job = await client.jobs.create(PROMPT)
            events = [event async for event in client.jobs.watch(job.id)]
            assert await client.jobs.images(await client.jobs.wait(job.id))
            return [event.status for event in events if isinstance(event, JobStatusChanged)]

    assert asyncio.run(watch()) == ["queued", "running", "completed"]


def test_pairs_are_added_found_and_removed(client: Client) -> None:
    added = client.knowledge.add([png((90, 90, 0))], ["a violet teapot"], ids=["mine/tea pot?"], license="MIT")
    assert (added.ids, added.added, added.rejected) == (("mine/tea pot?",), 1, ())
    (found,) = client.knowledge.search("a teapot", k=1).neighbors
    assert (found.id, found.rank, found.license) == ("mine/tea pot?", 1, "MIT")
    assert client.knowledge.get(found.id).caption == "a violet teapot"
    assert client.knowledge.image(found.id) == png((90, 90, 0))
    assert client.knowledge.uses(found.id).images == 0
    job = client.jobs.create("a violet teapot", size=16, n=2)
    list(client.jobs.watch(job.id))
    removed, uses = client.knowledge.remove(found.id), client.knowledge.uses(found.id)
    assert removed.uses == uses
    assert [(use.id, use.images) for use in uses.jobs] == [(job.id, 2)]
    with pytest.raises(NotFound):
        client.knowledge.get(found.id)
    nothing = client.knowledge.search("a teapot").nothing_found
    assert nothing
    assert nothing.field == "query"


def test_the_models_are_listed(client: Client) -> None:
    (model,) = client.models()
    assert model.sizes == ("16x16",)


def cancelled(service: Service) -> float:
    """Return the number of requests that were cancelled."""
    text = httpx.get(service.base_url.removesuffix("/v1") + "/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "reimagen_generator_calls_total" and sample.labels["outcome"] == "cancelled"
    )


def close_stream(service: Service) -> None:
    with Client(service.base_url) as client, contextlib.closing(client.stream(PROMPT, n=10, steps=200)) as events:
        assert isinstance(next(events), Retrieved)


def close_client(service: Service) -> None:
    with Client(service.base_url) as client:
        events = client.stream(PROMPT, n=10, steps=200)
        assert isinstance(next(events), Retrieved)
    with pytest.raises(Unavailable):
        list(events)


def close_grpc(service: Service) -> None:
    with GrpcClient(service.grpc) as client, contextlib.closing(client.stream(PROMPT, n=10, steps=200)) as events:
        assert isinstance(next(events), Retrieved)


def close_async_grpc(service: Service) -> None:
    async def draw() -> None:
        async with (
            AsyncGrpcClient(service.grpc) as client,
            contextlib.aclosing(client.stream(PROMPT, n=10, steps=200)) as events,
        ):
            assert isinstance(await anext(events), Retrieved)

    asyncio.run(draw())


def cancel_task(service: Service) -> None:
    async def draw() -> None:
        async with AsyncClient(service.base_url) as client:
            began = asyncio.Event()

            async def read() -> None:
                async for _ in client.stream(PROMPT, n=10, steps=200):
                    began.set()

            task = asyncio.create_task(read())
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(draw())


@pytest.mark.parametrize("end", [close_stream, close_client, close_grpc, close_async_grpc, cancel_task])
def test_the_end_of_a_stream_cancels_its_request(service: Service, end: Callable[[Service], None]) -> None:
    before = cancelled(service)
    end(service)
    wait_until(lambda: cancelled(service) == before + 1)
