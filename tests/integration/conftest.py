"""A collector of traces in OpenTelemetry's protocol, and clients of the generator that a module serves."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen_generator.server import GeneratorServer

SECONDS = 60


@dataclass(frozen=True)
class Received:
    """A span, and the service that sent it."""

    service: str
    span: Span


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """A collector that stores all received spans."""

    endpoint: str = ""
    received: list[Received] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)

    def Export(  # noqa: N802
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        with self.came:
            for of_resource in request.resource_spans:
                attributes = {each.key: each.value.string_value for each in of_resource.resource.attributes}
                self.received += [
                    Received(attributes["service.name"], span)
                    for of_scope in of_resource.scope_spans
                    for span in of_scope.spans
                ]
            self.came.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def trace_of(self, name: str, key: str, value: str) -> str:
        """Wait for a span of that name and attribute, and return the id of its trace."""
        with self.came:
            while True:
                for one in self.received:
                    attributes = {each.key: each.value.string_value for each in one.span.attributes}
                    if one.span.name == name and attributes.get(key) == value:
                        return one.span.trace_id.hex()
                assert self.came.wait(SECONDS), f"no span {name} with {key}={value}"

    def trace(self, trace_id: str, names: set[str]) -> list[Received]:
        """Wait until a trace has spans of all names, and return its spans."""
        deadline = time.monotonic() + SECONDS
        with self.came:
            while True:
                found = [one for one in self.received if one.span.trace_id.hex() == trace_id]
                if names <= {one.span.name for one in found}:
                    return found
                assert self.came.wait(deadline - time.monotonic()), sorted(one.span.name for one in found)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    server = grpc.server(ThreadPoolExecutor(2))
    collector = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield collector
    server.stop(0).wait()


@pytest.fixture(scope="module")
def rest(generator: GeneratorServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{generator.http_port}", timeout=240) as client:
        yield client


@pytest.fixture(scope="module")
def generation(generator: GeneratorServer) -> Iterator[GenerationStub]:
    with grpc.insecure_channel(f"127.0.0.1:{generator.grpc_port}") as channel:
        yield GenerationStub(channel)
