"""REST and gRPC on real sockets over tiny cascades, in this process so that tests can read the engine's counters."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from reimagen.v1.generation_pb2_grpc import GenerationStub
from reimagen_generator.backends.cascade import CascadeBackend
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine.engine import Engine
from reimagen_generator.server import GeneratorServer
from reimagen_generator.settings import Settings


@dataclass(frozen=True)
class Served:
    """A running service with a REST and a gRPC client."""

    rest: httpx.Client
    generation: GenerationStub
    channel: grpc.Channel
    grpc_address: str
    engine: Engine


@contextlib.contextmanager
def serve(cascade: Cascade, folder: Path, *, capacity: int, **options: Any) -> Iterator[Served]:
    settings = Settings(
        weights=folder,
        # Nothing listens there: tests/integration has a retriever.
        retriever="127.0.0.1:1",
        grpc="127.0.0.1:0",
        http="127.0.0.1:0",
        capacity=capacity,
        stop_seconds=0,
        jobs=folder / "jobs",
        **options,
    )
    engine = Engine(cascade, capacity=capacity)
    service = GeneratorServer(CascadeBackend(engine), settings)
    service.start()
    address = f"127.0.0.1:{service.grpc_port}"
    try:
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{service.http_port}", timeout=240) as rest,
            grpc.insecure_channel(address, options=[("grpc.max_send_message_length", 96 * 1024 * 1024)]) as channel,
        ):
            yield Served(rest, GenerationStub(channel), channel, address, engine)
    finally:
        service.stop()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve the tiny cascade."""
    folder = tmp_path_factory.mktemp("tiny")
    cascade = Cascade.random(TINY, seed=0)
    cascade.save(folder)
    with serve(cascade, folder, capacity=5) as service:
        yield service


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a cascade with so many steps that no request ends within a test; one request can wait."""
    folder = tmp_path_factory.mktemp("endless")
    stage = TINY.stages[0].model_copy(update={"steps": 50_000})
    cascade = Cascade.random(TINY.model_copy(update={"stages": (stage,)}), seed=0)
    cascade.save(folder)
    with serve(cascade, folder, capacity=2, job_capacity=4) as service, pytest.MonkeyPatch.context() as patch:
        # With true estimates, requests would be refused because they cannot be finished before their deadlines.
        for name in ("alone", "per_row", "turn", "start"):
            patch.setattr(service.engine.times, name, lambda kind: 0.0)
        yield service
