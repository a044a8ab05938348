"""Engines over tiny cascades."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.engine import warm_up
from reimagen_generator.engine.device import Device
from reimagen_generator.engine.engine import Engine
from reimagen_generator.engine.step_times import StepKind
from reimagen_generator.networks.registry import build_network
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder
from tests.engine_requests import MakeEngine, Wish


@pytest.fixture(scope="session")
def tiny() -> Cascade:
    """A cascade whose every weight is random; newly built, its zero layers would ignore what they are given."""
    rng = np.random.default_rng(5)
    networks = [build_network(stage.network, nnx.Rngs(0)) for stage in TINY.stages]
    for network in networks:
        state = nnx.state(network, nnx.Param)
        nnx.update(network, jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape, np.float32), state))
    return Cascade(TINY, networks, HashedNgramEncoder())


@pytest.fixture(scope="session")
def endless() -> Cascade:
    """A cascade of so many steps that no image is finished within a test."""
    stage = TINY.stages[0].model_copy(update={"steps": 50_000})
    return Cascade.random(TINY.model_copy(update={"stages": (stage,)}), seed=0)


@pytest.fixture
def make_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeEngine]:
    """Start engines that use every batch size that they may, and stop them when the test ends."""
    engines: list[Engine] = []
    measured, first = warm_up._seconds, dict[StepKind, float]()

    def as_fast_as_one(device: Device, kind: StepKind, *rest: Any) -> float:
        """Compile a step of any batch size, and return the time of the first one, so that the largest batch is best."""
        seconds = measured(device, kind, *rest)
        return first.setdefault(kind, seconds)

    monkeypatch.setattr(warm_up, "_seconds", as_fast_as_one)

    def make(cascade: Cascade, *, capacity: int = 4, largest_batch: int = 1) -> Engine:
        engine = Engine(cascade, capacity=capacity, largest_batch=largest_batch)
        engine.start()
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.stop(grace=0)


@pytest.fixture
def wish() -> Wish:
    return Wish()
