"""Every route and RPC of a generator that requires keys, over real sockets."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen_common.access.calls import calls_of
from reimagen_common.access.guard import Guard
from reimagen_common.access.key_file import add_key
from reimagen_common.access.keys import make_key
from reimagen_common.access.rights import Right
from reimagen_common.access.routes import routes_of
from reimagen_common.errors import InvalidArgument
from reimagen_generator.api.grpc import SERVICE_NAME
from reimagen_generator.api.http.app import create_app
from reimagen_generator.api.rights import CALLS, ROUTES
from reimagen_generator.backends.cascade import CascadeBackend
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine.engine import Engine
from reimagen_generator.generation.retriever_client import RetrieverClient
from reimagen_generator.generation.service import GenerationService
from reimagen_generator.generation.uploads import UploadStore
from reimagen_generator.generation.verification import Verifier
from reimagen_generator.server import GeneratorServer
from reimagen_generator.settings import Settings
from tests.access import check_route, check_rpc, header

SECONDS = 240
DRAW = {"prompt": "a red panda", "retrieval": {"k": 0}, "size": "16x16"}
# Requests that may be made have no body and name nothing that exists, so some of them fail later.
ALLOWED = {200, 400, 404, 503}


@dataclass(frozen=True)
class Keyed:
    rest: httpx.Client
    channel: grpc.Channel
    file: Path
    keys: dict[Right, str]


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cascade, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    cascade = Cascade.random(TINY.model_copy(update={"stages": TINY.stages[:1]}), seed=0)
    cascade.save(folder)
    return cascade, folder


@pytest.fixture(scope="module")
def keyed(cascade: tuple[Cascade, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    keys = {}
    for right in Right:
        keys[right], stored = make_key(right.value, frozenset({right}))
        add_key(file, stored)
    settings = Settings(
        weights=cascade[1], retriever="127.0.0.1:1", grpc="127.0.0.1:0", http="127.0.0.1:0", stop_seconds=0, keys=file
    )
    service = GeneratorServer(CascadeBackend(Engine(cascade[0], capacity=settings.capacity)), settings)
    service.start()
    try:
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{service.http_port}", timeout=SECONDS) as rest,
            grpc.insecure_channel(f"127.0.0.1:{service.grpc_port}") as channel,
        ):
            yield Keyed(rest, channel, file, keys)
    finally:
        service.stop()


def ask(keyed: Keyed, route: str, headers: dict[str, str]) -> int:
    method, _, path = route.partition(" ")
    # Not from this machine, as far as metrics are concerned.
    headers = headers | {"X-Forwarded-For": "203.0.113.7"}
    url = path.replace("{id:any}", "a").replace("{name}", "start.js").replace("{name:path}", "bundle.js")
    return keyed.rest.request(method, url, headers=headers).status_code


def test_every_route_and_rpc_has_its_right(cascade: tuple[Cascade, Path]) -> None:
    with contextlib.closing(RetrieverClient("127.0.0.1:1")) as retriever:
        service = GenerationService(CascadeBackend(Engine(cascade[0], capacity=1)), retriever)
        app = create_app(
            service,
            Guard(),
            UploadStore(seconds=1, maximum_bytes=1),
            None,
            Verifier(),
            deadline=1,
            body_seconds=1,
            base_url=None,
        )
    assert set(routes_of(app)) == ROUTES.keys()
    assert set(calls_of(SERVICE_NAME)) == CALLS.keys()


@pytest.mark.parametrize(("route", "right"), ROUTES.items())
def test_a_route_is_for_keys_with_its_right(keyed: Keyed, route: str, right: Right | None) -> None:
    check_route(partial(ask, keyed, route), keyed.keys, right, ALLOWED)


@pytest.mark.parametrize(("call", "right"), CALLS.items())
def test_an_rpc_is_for_keys_with_its_right(keyed: Keyed, call: str, right: Right) -> None:
    run = keyed.channel.unary_stream(f"/{call}", lambda data: data, lambda data: data)
    check_rpc(lambda metadata: list(run(b"", timeout=SECONDS, metadata=metadata)), keyed.keys, right)


def client(keyed: Keyed, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{keyed.rest.base_url}/v1", api_key=key, max_retries=0, timeout=SECONDS)


def test_the_openai_client_raises_its_own_errors(keyed: Keyed) -> None:
    unknown, _ = make_key("unknown", frozenset(Right))
    with client(keyed, unknown) as stranger, pytest.raises(openai.AuthenticationError) as caught:
        stranger.images.generate(prompt="a red panda")
    assert caught.value.code == "invalid_api_key"
    with client(keyed, keyed.keys[Right.READ]) as reader:
        assert [model.id for model in reader.models.list()] == ["tiny"]
        with pytest.raises(openai.PermissionDeniedError, match="lacks the right 'generate'"):
            reader.images.generate(prompt="a red panda")
    with client(keyed, keyed.keys[Right.GENERATE]) as painter:
        drawn = painter.images.generate(prompt="a red panda", size="16x16", extra_body={"retrieval": {"k": 0}})
        assert drawn.data
        with pytest.raises(openai.BadRequestError):
            painter.images.generate(prompt="a red panda", size="17x17")


def test_a_quota_counts_images_over_rest_and_grpc(keyed: Keyed) -> None:
    key, stored = make_key("limited", frozenset({Right.GENERATE}), images_per_day=2)
    add_key(keyed.file, stored)
    with client(keyed, key) as limited:
        with pytest.raises(
            openai.RateLimitError, match="may have 2 images a day, and the request asks for 3"
        ) as caught:
            limited.images.generate(prompt="a red panda", n=3, size="16x16", extra_body={"retrieval": {"k": 0}})
        assert caught.value.code == "insufficient_quota"
        # A request that is invalid uses nothing.
        with pytest.raises(openai.BadRequestError):
            limited.images.generate(prompt="a red panda", n=2, size="17x17")
        limited.images.generate(prompt="a red panda", n=2, size="16x16", extra_body={"retrieval": {"k": 0}})
    request = pb.GenerateRequest(prompt="a red panda", size=16, retrieval=pb.GenerateRequest.Retrieval(k=0))
    with pytest.raises(grpc.RpcError) as refused:
        list(GenerationStub(keyed.channel).Generate(request, metadata=(("authorization", f"Bearer {key}"),)))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "has used up its 2 images a day" in str(refused.value.details())


def test_a_linked_image_is_for_the_key_that_drew_it(keyed: Keyed) -> None:
    mine = header(keyed.keys[Right.GENERATE])
    body = DRAW | {"response_format": "url"}
    url = keyed.rest.post("/v1/images/generations", json=body, headers=mine).json()["data"][0]["url"]
    assert keyed.rest.get(url, headers=mine).status_code == 200
    assert keyed.rest.get(url).status_code == 401
    theirs, stored = make_key("another", frozenset({Right.GENERATE}))
    add_key(keyed.file, stored)
    assert keyed.rest.get(url, headers=header(theirs)).status_code == 404


def test_the_openapi_document_declares_keys(keyed: Keyed) -> None:
    document = keyed.rest.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["api_key"]["scheme"] == "bearer"
    generate = document["paths"]["/v1/images/generations"]["post"]
    assert generate["security"] == [{"api_key": []}]
    assert {"401", "403"} <= generate["responses"].keys()
    assert "security" not in document["paths"]["/livez"]["get"]


def test_without_keys_any_key_is_taken(served: Any) -> None:
    """OpenAI's clients always send one."""
    assert served.rest.get("/v1/models", headers=header("any")).status_code == 200
    assert "securitySchemes" not in served.rest.get("/openapi.json").json()["components"]
    assert served.generation.Describe(pb.DescribeCascadeRequest(), metadata=(("authorization", "Bearer x"),)).cascade


@pytest.mark.parametrize("exposed", [{"http": "0.0.0.0:8000"}, {"grpc": "[::]:1"}, {"http": "generator:80"}])
def test_other_machines_need_keys_or_a_decision(exposed: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keys: must be set, because other machines can reach"):
        Settings(**exposed)
    assert Settings(**exposed, allow_anonymous=True).keys is None
    assert Settings(**exposed, keys=tmp_path).keys == tmp_path
    assert Settings(http="localhost:80", grpc="[::1]:1").keys is None
    with pytest.raises(ValueError, match="allow_anonymous: must not be set together with keys"):
        Settings(keys=tmp_path, allow_anonymous=True)


def test_a_missing_key_file_is_refused_at_the_start(cascade: tuple[Cascade, Path], tmp_path: Path) -> None:
    settings = Settings(weights=cascade[1], http="127.0.0.1:0", grpc="127.0.0.1:0", keys=tmp_path / "none")
    with pytest.raises(InvalidArgument, match=r"^keys: there is no key file"):
        GeneratorServer(CascadeBackend(Engine(cascade[0], capacity=settings.capacity)), settings)
