"""The frame of gRPC servers, with a real client over real sockets."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY

from reimagen.v1 import generation_pb2, generation_pb2_grpc, retrieval_pb2, retrieval_pb2_grpc
from reimagen_common import request_id
from reimagen_common.errors import (
    FIELD_KEY,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Overloaded,
    ReimagenError,
    Unavailable,
    from_rpc_error,
)
from reimagen_common.grpc_server import GrpcServer

WAIT_S = 20
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass
class Retrieval(retrieval_pb2_grpc.RetrievalServicer):
    """A servicer that answers every call with the test's function."""

    act: Callable[[grpc.ServicerContext], None]

    def Search(
        self, request: retrieval_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> retrieval_pb2.SearchResponse:
        self.act(context)
        return retrieval_pb2.SearchResponse(revision="g1")

    def BatchSearch(self, request: Any, context: grpc.ServicerContext) -> retrieval_pb2.BatchSearchResponse:
        raise AssertionError("not called")

    def GetPair(self, request: Any, context: grpc.ServicerContext) -> retrieval_pb2.Pair:
        raise AssertionError("not called")

    def AddPairs(self, requests: Any, context: grpc.ServicerContext) -> retrieval_pb2.AddPairsResponse:
        return retrieval_pb2.AddPairsResponse(added=len(list(requests)))

    def DeletePairs(self, request: Any, context: grpc.ServicerContext) -> retrieval_pb2.DeletePairsResponse:
        raise AssertionError("not called")

    def Describe(self, request: Any, context: grpc.ServicerContext) -> retrieval_pb2.DescribeResponse:
        raise AssertionError("not called")


@dataclass
class Generation(generation_pb2_grpc.GenerationServicer):
    """A servicer that streams events until the test's function ends the stream."""

    act: Callable[[grpc.ServicerContext], None]

    def Generate(self, request: Any, context: grpc.ServicerContext) -> Iterator[generation_pb2.GenerateEvent]:
        yield generation_pb2.GenerateEvent(accepted=generation_pb2.GenerateEvent.Accepted(id="call"))
        self.act(context)

    def Describe(self, request: Any, context: grpc.ServicerContext) -> generation_pb2.DescribeCascadeResponse:
        raise AssertionError("not called")


@contextmanager
def serving(act: Callable[[grpc.ServicerContext], None], workers: int = 4) -> Iterator[tuple[GrpcServer, grpc.Channel]]:
    server = GrpcServer(address="127.0.0.1:0", workers=workers, max_message_bytes=1 << 20)
    server.add(
        lambda frame: retrieval_pb2_grpc.add_RetrievalServicer_to_server(Retrieval(act), frame),  # type: ignore[abstract]  # only what is called
        "reimagen.v1.Retrieval",
    )
    server.add(
        lambda frame: generation_pb2_grpc.add_GenerationServicer_to_server(Generation(act), frame),  # type: ignore[abstract]  # only what is called
        "reimagen.v1.Generation",
    )
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield server, channel
    finally:
        server.stop(grace=0)


def search(channel: grpc.Channel, query: str = "a fox") -> retrieval_pb2.SearchResponse:
    request = retrieval_pb2.SearchRequest(query=query)
    return retrieval_pb2_grpc.RetrievalStub(channel).Search(request, timeout=WAIT_S)


def health_of(channel: grpc.Channel, service: str = "") -> object:
    request = health_pb2.HealthCheckRequest(service=service)
    return health_stub(channel).Check(request, timeout=WAIT_S).status


def health_stub(channel: grpc.Channel) -> Any:
    """The stub; its published types lack the methods."""
    return health_pb2_grpc.HealthStub(channel)


def raising(error: Exception) -> Callable[[grpc.ServicerContext], None]:
    def act(_context: grpc.ServicerContext) -> None:
        raise error

    return act


def nothing(_context: grpc.ServicerContext) -> None:
    return None


ERRORS = [
    InvalidArgument("must be 1 to 16, got 1,000", field="retrieval.k"),
    NotFound("there is no pair 'é'"),
    Overloaded("the queue is full", retry_after=2.5),
    Unavailable("the retriever does not answer", retry_after=1.0),
    DeadlineExceeded("the time is up"),
]


@pytest.mark.parametrize("raised", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_on_both_sides_of_a_call(raised: ReimagenError) -> None:
    with serving(raising(raised)) as (_server, channel), pytest.raises(grpc.RpcError) as caught:
        search(channel)
    received = from_rpc_error(caught.value)
    assert caught.value.code() is raised.grpc_code
    assert type(received) is type(raised)
    assert (received.message, received.field, received.retry_after) == (
        raised.message,
        raised.field,
        raised.retry_after,
    )


def test_an_error_in_a_stream_follows_the_messages_sent_before() -> None:
    with serving(raising(Unavailable("the service is stopping"))) as (_server, channel):
        stream = generation_pb2_grpc.GenerationStub(channel).Generate(generation_pb2.GenerateRequest(), timeout=WAIT_S)
        assert next(stream).accepted.id == "call"
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
    assert isinstance(from_rpc_error(caught.value), Unavailable)


def test_an_unexpected_failure_is_logged_and_hidden_from_the_client(caplog: pytest.LogCaptureFixture) -> None:
    with serving(raising(ValueError("the secret path"))) as (_server, channel), pytest.raises(grpc.RpcError) as caught:
        search(channel)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (caught.value.details() or "")
    assert "the secret path" in caplog.text


def test_a_servicer_may_abort_by_itself() -> None:
    def act(context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")

    with serving(act) as (_server, channel), pytest.raises(grpc.RpcError) as caught:
        search(channel)
    error = from_rpc_error(caught.value)
    assert type(error) is ReimagenError
    assert error.message == "UNIMPLEMENTED: not here"


@pytest.mark.parametrize("message", ["x" * 50_000, "lone \ud800 surrogate"])
def test_any_message_passes_the_wire(message: str) -> None:
    raised = InvalidArgument(message, field="prompt")
    with serving(raising(raised)) as (_server, channel), pytest.raises(grpc.RpcError) as caught:
        search(channel)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith(f"prompt: {message[:4]}")


def test_health_follows_the_service() -> None:
    with serving(nothing) as (server, channel):
        assert health_of(channel) == NOT_SERVING
        server.set_serving(True)
        assert [health_of(channel, name) for name in ("", "reimagen.v1.Retrieval", "reimagen.v1.Generation")] == [
            SERVING
        ] * 3
        server.set_serving(False)
        assert health_of(channel, "reimagen.v1.Retrieval") == NOT_SERVING


def test_reflection_lists_the_services_and_their_messages() -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="reimagen.v1.SearchRequest"),
    ]
    with serving(nothing) as (_server, channel):
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, described = stub.ServerReflectionInfo(iter(requests), timeout=WAIT_S)
    names = {service.name for service in listed.list_services_response.service}
    assert names >= {"reimagen.v1.Retrieval", "reimagen.v1.Generation", "grpc.health.v1.Health"}
    assert described.file_descriptor_response.file_descriptor_proto


def test_a_busy_service_refuses_at_once_and_stays_healthy() -> None:
    release = threading.Event()

    def act(_context: grpc.ServicerContext) -> None:
        assert release.wait(WAIT_S)

    with serving(act, workers=1) as (server, channel):
        server.set_serving(True)
        stub = retrieval_pb2_grpc.RetrievalStub(channel)
        calls = [stub.Search.future(retrieval_pb2.SearchRequest(query="a fox"), timeout=WAIT_S) for _ in range(20)]
        refused = threading.Semaphore(0)
        for call in calls:
            call.add_done_callback(lambda _call: refused.release())
        # One runs and four wait for its thread.
        assert all(refused.acquire(timeout=WAIT_S) for _ in range(15))
        assert health_of(channel) == SERVING
        release.set()
        errors = [error for error in (call.exception() for call in calls) if error is not None]
        assert len(errors) == 15
        for error in errors:
            assert isinstance(error, grpc.RpcError)
            overloaded = from_rpc_error(error)
            assert isinstance(overloaded, Overloaded)
            assert overloaded.retry_after == 1.0
        refusals = REGISTRY.get_sample_value("reimagen_overload_refusals_total", {"face": "grpc"}) or 0
        assert refusals >= 15
        # The refused call has released its slot: the service accepts calls again.
        assert search(channel).revision == "g1"


def test_stopping_refuses_new_calls_and_finishes_running_ones() -> None:
    entered, release = threading.Event(), threading.Event()

    def act(_context: grpc.ServicerContext) -> None:
        entered.set()
        assert release.wait(WAIT_S)

    with serving(act) as (server, channel):
        server.set_serving(True)
        watch = health_stub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
        assert next(watch).status == SERVING
        call = retrieval_pb2_grpc.RetrievalStub(channel).Search.future(retrieval_pb2.SearchRequest(), timeout=WAIT_S)
        assert entered.wait(WAIT_S)
        stopping = threading.Thread(target=server.stop, args=(WAIT_S,))
        stopping.start()
        assert next(watch).status == NOT_SERVING
        watch.cancel()
        release.set()
        assert call.result().revision == "g1"
        stopping.join(WAIT_S)
        assert not stopping.is_alive()


def test_a_port_in_use_is_refused() -> None:
    with serving(nothing) as (server, _channel), pytest.raises(RuntimeError, match="address"):
        GrpcServer(address=f"127.0.0.1:{server.port}", workers=1, max_message_bytes=1 << 20)


def test_each_call_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), serving(nothing) as (server, channel):
        search(channel)
        health_of(channel)
        server.stop(grace=WAIT_S)
    calls = [record for record in caplog.records if record.getMessage() == "call"]
    assert [(vars(record)["method"], vars(record)["code"]) for record in calls] == [
        ("reimagen.v1.Retrieval/Search", "OK")
    ]


def test_a_callers_request_id_is_in_all_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    names: list[str | None] = []

    def note(_record: logging.LogRecord) -> bool:
        names.append(request_id.current())
        return True

    caplog.handler.addFilter(note)
    logger = logging.getLogger("test")
    with caplog.at_level(logging.INFO), serving(lambda _context: logger.info("at it")) as (server, channel):
        for given in ("the-call", "no good"):
            retrieval_pb2_grpc.RetrievalStub(channel).Search(
                retrieval_pb2.SearchRequest(), timeout=WAIT_S, metadata=((request_id.HEADER, given),)
            )
        server.stop(grace=WAIT_S)
    assert names[:2] == ["the-call"] * 2
    assert names[2] == names[3] not in ("no good", None)


def test_the_end_of_a_call_is_logged_with_its_id_for_every_outcome() -> None:
    def fail(_context: Any) -> NoReturn:
        raise InvalidArgument("must be another", field="query")

    for behavior, reported in ((nothing, {}), (fail, {FIELD_KEY: "query"})):
        with serving(behavior) as (_server, channel):
            call = retrieval_pb2_grpc.RetrievalStub(channel).Search.future(
                retrieval_pb2.SearchRequest(), timeout=WAIT_S, metadata=((request_id.HEADER, "the-call"),)
            )
            assert call.trailing_metadata() is not None
            assert dict(call.trailing_metadata()) == {request_id.HEADER: "the-call", **reported}


def test_calls_are_measured_by_method_and_code() -> None:
    def count(code: str) -> float:
        labels = {"method": "reimagen.v1.Retrieval/Search", "code": code}
        return REGISTRY.get_sample_value("reimagen_grpc_call_seconds_count", labels) or 0

    before = {code: count(code) for code in ("OK", "NOT_FOUND")}
    with serving(nothing) as (server, channel):
        search(channel)
        server.stop(grace=WAIT_S)
    with serving(raising(NotFound("no"))) as (server, channel), pytest.raises(grpc.RpcError):
        search(channel)
    assert {code: count(code) - before[code] for code in before} == {"OK": 1, "NOT_FOUND": 1}
    assert REGISTRY.get_sample_value("reimagen_grpc_calls_in_flight") == 0


def test_a_missing_server_is_unavailable() -> None:
    with serving(nothing) as (server, _channel):
        address = f"127.0.0.1:{server.port}"
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        search(channel)
    assert isinstance(from_rpc_error(caught.value), Unavailable)


def call_with_bytes(channel: grpc.Channel, method: str, messages: list[bytes], *, streams: bool = False) -> Any:
    """Send bytes in place of messages, and return what the call raises."""
    call: Any = channel.stream_stream(method) if streams else channel.unary_stream(method)
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter(messages) if streams else messages[0], timeout=WAIT_S))
    return caught.value


GARBAGE = [b"\xff\xff\xff", b"\x0a\xff", b"\x0a\x02\xc3\x28", b"GET / HTTP/1.1"]


@pytest.mark.parametrize("message", GARBAGE)
@pytest.mark.parametrize("method", ["Retrieval/Search", "Generation/Generate", "Retrieval/AddPairs"])
def test_an_invalid_message_is_an_invalid_argument(
    caplog: pytest.LogCaptureFixture, method: str, message: bytes
) -> None:
    with serving(nothing) as (_server, channel):
        method = f"reimagen.v1.{method}"
        error = call_with_bytes(channel, f"/{method}", [message], streams=method.endswith("AddPairs"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == f"the message is not a request of {method}"
        assert search(channel).revision == "g1"
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("method", ["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"])
def test_an_invalid_message_of_health_or_reflection_is_an_invalid_argument(
    caplog: pytest.LogCaptureFixture, method: str
) -> None:
    with serving(nothing) as (_server, channel):
        error = call_with_bytes(channel, f"/{method}", [b"\xff\xff"])
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        reflected: Any = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError) as caught:
            list(reflected(iter([b"\xff\xff"]), timeout=WAIT_S))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_port_above_65535_is_refused() -> None:
    with pytest.raises(ValueError, match="must have a port from 0 to 65,535, got 99999"):
        GrpcServer(address="127.0.0.1:99999", workers=1, max_message_bytes=1 << 20)
