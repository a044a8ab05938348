"""One request: what the cascade does not support is refused, and jobs wait for the retriever."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from reimagen_common.errors import InvalidArgument, Overloaded, ReimagenError, Unavailable
from reimagen_generator.backends.cascade import CascadeBackend
from reimagen_generator.backends.image_server import ImageServerBackend
from reimagen_generator.backends.openai_images import Upstream
from reimagen_generator.config.cascade import Guidance, SamplerKind, Strategy
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine.engine import Engine
from reimagen_generator.engine.request_handle import Cancelled, RequestHandle
from reimagen_generator.engine.work import Priority
from reimagen_generator.generation.request import parse_request
from reimagen_generator.generation.retriever_client import Neighbors, RetrieverClient
from reimagen_generator.generation.service import Event, GenerationService
from tests.faulty_retriever import Faulty, serving
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def generator() -> Iterator[GenerationService]:
    """Return a service whose one stage uses a multi-step solver, with at most four neighbors."""
    stage = TINY.stages[0].model_copy(
        update={"sampler": SamplerKind.UNIPC, "guidance": Guidance(strategy=Strategy.WEIGHTED, text_weight=2.0)}
    )
    config = TINY.model_copy(update={"stages": (stage,), "maximum_k": 4})
    with contextlib.closing(RetrieverClient("127.0.0.1:1")) as retriever:
        yield GenerationService(CascadeBackend(Engine(Cascade.random(config, seed=0), capacity=1)), retriever)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"size": 64}, "size"),
        ({"retrieval": {"k": 5}}, "retrieval.k"),
        ({"references": [{"image": b"x", "caption": "x"}] * 5}, "references"),
        ({"guidance": {"strategy": "interleaved"}}, "guidance.strategy"),
        ({"guidance": {"strategy": "interleaved"}, "sampler": "dpm-solver++"}, "sampler"),
        ({"guidance": {"strategy": "interleaved"}, "stages": [{"size": 16, "sampler": "unipc"}]}, "stages.0.sampler"),
        ({"stages": [{"size": 64}]}, "stages.0.size"),
    ],
)
def test_requests_beyond_the_cascade_are_refused_by_name(
    generator: GenerationService, fields: dict[str, object], field: str
) -> None:
    request = parse_request({"prompt": "a kea", **fields})
    with pytest.raises(InvalidArgument) as refused:
        next(generator.generate(request, RequestHandle(timeout=20)))
    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: ")


@contextlib.contextmanager
def searching(retriever: Faulty) -> Iterator[GenerationService]:
    """Return a service whose image server is not called before the search has ended."""
    upstream = Upstream("http://127.0.0.1:1")
    backend = ImageServerBackend(upstream, name="m", sizes=(16,), maximum_k=1)
    backend.start()
    with serving(retriever) as address, contextlib.closing(RetrieverClient(address)) as client:
        yield GenerationService(backend, client)
    backend.stop(0)


def begun(service: GenerationService, handle: RequestHandle, priority: Priority) -> Iterator[Event]:
    events = service.generate(parse_request({"prompt": "a kea", "retrieval": {"k": 1}}), handle, priority)
    next(events)
    return events


# The client itself calls an unavailable retriever four times.
FAULTS = [[Overloaded("full", retry_after=0.1)], [Unavailable("down", retry_after=0.1)] * 4]


@pytest.mark.parametrize("errors", FAULTS)
def test_a_job_waits_for_the_retriever(errors: list[ReimagenError]) -> None:
    retriever = Faulty(*errors)
    with searching(retriever) as service:
        found = next(begun(service, RequestHandle(timeout=200), Priority.BACKGROUND))
    assert isinstance(found, Neighbors)
    assert [neighbor.id for neighbor in found.neighbors] == ["1"]
    assert retriever.asked == len(errors) + 1


@pytest.mark.parametrize("errors", FAULTS)
@pytest.mark.parametrize(("priority", "timeout"), [(Priority.INTERACTIVE, 200), (Priority.BACKGROUND, 4)])
def test_others_and_late_jobs_do_not_wait_for_the_retriever(
    errors: list[ReimagenError], priority: Priority, timeout: float
) -> None:
    with searching(Faulty(*errors)) as service:
        events = begun(service, RequestHandle(timeout=timeout), priority)
        with pytest.raises(type(errors[0])):
            next(events)


def test_a_job_that_waits_for_the_retriever_can_be_cancelled() -> None:
    handle, retriever = RequestHandle(timeout=2000), Faulty(Overloaded("full", retry_after=60))
    with searching(retriever) as service, ThreadPoolExecutor(1) as pool:
        ended = pool.submit(next, begun(service, handle, Priority.BACKGROUND))
        wait_until(lambda: retriever.asked == 1)
        handle.cancel()
        with pytest.raises(Cancelled):
            ended.result()
