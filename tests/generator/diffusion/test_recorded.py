"""Images that earlier versions drew, recorded: refactoring must not change what a seed gives.

Run as a script, this file prints a digest of each case, to be compared between two versions on one machine, where they
must be equal. Another processor rounds differently, so the test allows for two levels of 255.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from reimagen_generator.config.cascade import CascadeConfig, Guidance, SamplerKind, ScheduleKind, Strategy
from reimagen_generator.config.placement import PlacementConfig
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import ImagesEvent
from reimagen_generator.diffusion.options import GuidanceOptions
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.networks.placement_network import PlacementNetwork
from reimagen_generator.networks.registry import build_network
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder

RECORDED = Path(__file__).with_name("recorded.npz")
LEVELS = 2

_ROWS, _COLUMNS = np.mgrid[:40, :30]
PAIRS = [
    ReferencePair(np.stack([6 * _ROWS, 8 * _COLUMNS, 200 + 0 * _ROWS], -1).astype(np.uint8), "a kea"),
    ReferencePair(np.stack([9 * _COLUMNS, 90 + 0 * _ROWS, 5 * _ROWS], -1)[:24].astype(np.uint8), "a fox, flying"),
]


def awakened(config: CascadeConfig) -> Cascade:
    """Return a cascade with random weights: at initialization, zeroed layers would hide their inputs."""
    rng = np.random.default_rng(5)

    def awaken(network: nnx.Module) -> None:
        state = nnx.state(network, nnx.Param)
        nnx.update(network, jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape, np.float32), state))

    networks = [build_network(stage.network, nnx.Rngs(0)) for stage in config.stages]
    for network in networks:
        awaken(network)
    placement = None
    if config.placement is not None:
        placement = PlacementNetwork(
            config.placement, nnx.Rngs(0)
        )  # with other weights, it places outside of the image
    return Cascade(config, networks, HashedNgramEncoder(), placement=placement)


def stage(**changes: object) -> CascadeConfig:
    """Return the tiny cascade's first stage with changes."""
    return TINY.model_copy(update={"stages": (TINY.stages[0].model_copy(update={"steps": 4, **changes}),)})


def images(
    config: CascadeConfig, *, size: int = 16, k: int = 2, seeds: tuple[int, ...] = (7, 8), **guidance: Any
) -> np.ndarray:
    cascade = awakened(config)
    guided = cascade.resolve_guidance(GuidanceOptions(**guidance), size)
    *_, drawn = cascade.draw("a kea in the snow", PAIRS[:k], seeds=seeds, size=size, guidance=guided)
    assert isinstance(drawn, ImagesEvent)
    return drawn.images


def placed() -> CascadeConfig:
    first = TINY.stages[0]
    network = first.network.model_copy(update={"placed": True, "tail_channels": 8})
    return TINY.model_copy(
        update={
            "stages": (first.model_copy(update={"network": network, "steps": 4}),),
            "placement": PlacementConfig(text_channels=256),
        }
    )


CASES: dict[str, Callable[[], np.ndarray]] = {
    "cascade": lambda: images(TINY, size=64),
    "one seed": lambda: images(TINY, size=32, seeds=(3,), k=1),
    "no neighbors": lambda: images(TINY, size=32, k=0),
    "weighted": lambda: images(TINY, strategy=Strategy.WEIGHTED, neighbor_weight=3.0, interleave_ratio=0.3),
    "joint": lambda: images(TINY, strategy=Strategy.JOINT, text_weight=3.0),
    "unguided": lambda: images(TINY, strategy=Strategy.JOINT, text_weight=1.0),
    "ddpm": lambda: images(stage(sampler=SamplerKind.DDPM)),
    "interval": lambda: images(stage(guidance=Guidance(text_weight=3.0, neighbor_weight=2.0, interval=(-1.0, 1.0)))),
    "dpm-solver": lambda: images(
        stage(sampler=SamplerKind.DPM_SOLVER, guidance=Guidance(strategy=Strategy.WEIGHTED, text_weight=2.0))
    ),
    "unipc": lambda: images(
        stage(sampler=SamplerKind.UNIPC, guidance=Guidance(strategy=Strategy.JOINT, text_weight=2.0))
    ),
    "cosine betas": lambda: images(stage(schedule=ScheduleKind.COSINE_BETAS)),
    "placed": lambda: images(placed()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_seed_gives_the_recorded_image(case: str) -> None:
    drawn = CASES[case]().astype(int)
    assert np.abs(drawn - np.load(RECORDED)[case]).max() <= LEVELS


if __name__ == "__main__":
    all_drawn = {case: draw() for case, draw in CASES.items()}
    for case, drawn in all_drawn.items():
        print(hashlib.sha256(drawn.tobytes()).hexdigest()[:16], case)  # noqa: T201
    if "--record" in sys.argv:
        np.savez_compressed(RECORDED, allow_pickle=False, **all_drawn)
