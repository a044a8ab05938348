"""Disconnected clients, deadlines and overload, over REST and gRPC, with a cascade that never finishes."""

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from reimagen.v1 import generation_pb2 as pb
from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen_generator.api.http.limits import BODY_BYTES
from tests.waiting import wait_until

URL = "/v1/images/generations"
BODY = {"prompt": "a red panda", "retrieval": {"k": 0}, "size": "16x16"}
REQUEST = pb.GenerateRequest(prompt="a red panda", size=16, retrieval=pb.GenerateRequest.Retrieval(k=0))
SECONDS = 240


@pytest.fixture
def stops_one(endless: Any) -> Iterator[None]:
    """Check that the test's one call is cancelled and leaves the engine idle."""
    before = endless.engine.counters
    yield
    wait_until(lambda: endless.engine.counters.cancelled == before.cancelled + 1)
    assert endless.engine.counters.finished == before.finished


@pytest.mark.usefixtures("stops_one")
def test_a_grpc_client_that_cancels_stops_the_work(endless: Any) -> None:
    call = endless.generation.Generate(REQUEST, timeout=SECONDS)
    kinds = [next(call).WhichOneof("event") for _ in range(3)]
    assert kinds == ["accepted", "neighbors", "progress"]
    call.cancel()


@pytest.mark.usefixtures("stops_one")
def test_a_grpc_client_that_disconnects_stops_the_work(endless: Any) -> None:
    with grpc.insecure_channel(endless.grpc_address) as channel:
        events = GenerationStub(channel).Generate(REQUEST, timeout=SECONDS)
        assert any(event.HasField("progress") for event in events)


@pytest.mark.usefixtures("stops_one")
def test_a_rest_client_that_disconnects_stops_the_work(endless: Any) -> None:
    steps = endless.engine.counters.steps
    client = http.client.HTTPConnection(endless.rest.base_url.host, endless.rest.base_url.port)
    with contextlib.closing(client):
        client.request("POST", URL, json.dumps(BODY), {"content-type": "application/json"})
        wait_until(lambda: endless.engine.counters.steps > steps)


@pytest.mark.usefixtures("stops_one")
def test_a_rest_client_that_leaves_a_stream_stops_the_work(endless: Any) -> None:
    with endless.rest.stream("POST", URL, json={**BODY, "stream": True}) as response:
        lines = response.iter_lines()
        assert next(lines) == "event: image_generation.neighbors"
        assert any(line == "event: image_generation.progress" for line in lines)


def test_a_grpc_deadline_stops_the_work(endless: Any) -> None:
    before = endless.engine.counters
    with pytest.raises(grpc.RpcError) as late:
        list(endless.generation.Generate(REQUEST, timeout=1.0))
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(
        lambda: (
            endless.engine.counters.deadline_exceeded + endless.engine.counters.cancelled
            == before.deadline_exceeded + before.cancelled + 1
        )
    )


def test_excess_requests_are_refused_at_once_with_retry_after(endless: Any) -> None:
    calls = []
    for ahead in range(2):
        call = endless.generation.Generate(REQUEST, timeout=SECONDS)
        assert next(call).accepted.queued == ahead
        calls.append(call)
    response = endless.rest.post(URL, json=BODY)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["type"] == "overloaded_error"
    with pytest.raises(grpc.RpcError) as refused:
        list(endless.generation.Generate(REQUEST, timeout=SECONDS))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    # A large body is refused before it arrives.
    client = http.client.HTTPConnection(endless.rest.base_url.host, endless.rest.base_url.port, timeout=SECONDS)
    with contextlib.closing(client):
        client.putrequest("POST", URL)
        client.putheader("content-type", "application/json")
        client.putheader("content-length", f"{BODY_BYTES}")
        client.endheaders()
        assert client.getresponse().status == 429
    assert endless.rest.get("/readyz").status_code == 200
    cancelled = endless.engine.counters.cancelled
    for call in calls:
        call.cancel()
    wait_until(lambda: endless.engine.counters.cancelled == cancelled + 2)
