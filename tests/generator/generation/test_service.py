"""Requests that the loaded cascade does not support, refused before drawing."""

import contextlib
from collections.abc import Iterator

import pytest

from reimagen_common.errors import InvalidArgument
from reimagen_generator.backends.cascade import CascadeBackend
from reimagen_generator.config.cascade import Guidance, SamplerKind, Strategy
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine.engine import Engine
from reimagen_generator.engine.request_handle import RequestHandle
from reimagen_generator.generation.request import parse_request
from reimagen_generator.generation.retriever_client import RetrieverClient
from reimagen_generator.generation.service import GenerationService


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
