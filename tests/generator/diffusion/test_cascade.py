"""Drawing with the tiny cascade."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from reimagen_common.errors import InvalidArgument
from reimagen_generator.config.cascade import CascadeConfig, Guidance, SamplerKind, Strategy
from reimagen_generator.config.presets import TINY
from reimagen_generator.diffusion import stage_program
from reimagen_generator.diffusion.cascade import Cascade
from reimagen_generator.diffusion.events import ImagesEvent, StepEvent
from reimagen_generator.diffusion.options import GuidanceOptions
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.diffusion.stage_program import StageProgram
from reimagen_generator.networks.registry import build_network
from reimagen_generator.networks.unet import UNet
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder

PAIRS = [
    ReferencePair(np.full((30, 20, 3), 200, np.uint8), "a kea"),
    ReferencePair(np.full((8, 8, 3), 20, np.uint8), "a kea, flying"),
]


def awakened(seed: int, config: CascadeConfig = TINY) -> Cascade:
    """Return a cascade with random weights: at initialization, zeroed layers would hide their inputs."""
    networks = []
    for index, stage in enumerate(config.stages):
        network = build_network(stage.network, nnx.Rngs(seed))
        state = nnx.state(network, nnx.Param)
        rng = np.random.default_rng(seed + index)
        changed = jax.tree.map(lambda a, rng=rng: a + 0.1 * rng.standard_normal(a.shape, np.float32), state)
        nnx.update(network, changed)
        networks.append(network)
    return Cascade(config, networks, HashedNgramEncoder())


def draw(cascade: Cascade, pairs: list[ReferencePair], seeds: list[int], size: int = 32, **guidance: Any) -> np.ndarray:
    guided = cascade.resolve_guidance(GuidanceOptions(**guidance), size)
    *steps, drawn = cascade.draw("a kea in the snow", pairs, seeds=seeds, size=size, guidance=guided)
    assert all(isinstance(step, StepEvent) for step in steps)
    assert isinstance(drawn, ImagesEvent)
    return drawn.images


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    return awakened(0)


def test_stages_report_each_step(cascade: Cascade) -> None:
    *steps, drawn = cascade.draw("a kea", PAIRS, seeds=[1], size=64)
    assert isinstance(drawn, ImagesEvent)
    reported = [(step.stage, step.size, step.step) for step in steps if isinstance(step, StepEvent)]
    expected = [
        (index, stage.size, step + 1)
        for index, stage in enumerate(cascade.config.stages)
        for step in range(stage.steps)
    ]
    assert reported == expected


def test_a_seed_gives_the_same_image_alone_and_in_a_batch(cascade: Cascade) -> None:
    together = draw(cascade, PAIRS, [7, 8])
    assert (together[0] != together[1]).any()
    assert (draw(cascade, PAIRS, [8]) == draw(cascade, PAIRS, [8])).all()
    # Batches of another size are compiled separately, and can round differently.
    assert np.abs(draw(cascade, PAIRS, [8])[0].astype(int) - together[1]).max() <= 1


def test_neighbors_and_their_texts_matter(cascade: Cascade) -> None:
    drawn = draw(cascade, PAIRS, [1])
    assert (drawn != draw(cascade, PAIRS[:1], [1])).any()
    assert (drawn != draw(cascade, [], [1])).any()
    renamed = [ReferencePair(pair.image, "a chair") for pair in PAIRS]
    assert (drawn != draw(cascade, renamed, [1])).any()


def test_low_res_consistency_keeps_the_low_resolution_image(cascade: Cascade) -> None:
    larger = TINY.stages[1].model_copy(update={"low_res_consistency": True})
    keeping = awakened(0, TINY.model_copy(update={"stages": (TINY.stages[0], larger)}))
    small = draw(keeping, PAIRS, [5, 6], size=16).astype(float)
    assert (small == draw(cascade, PAIRS, [5, 6], size=16)).all()

    def drift(drawn: np.ndarray) -> float:
        return float(np.abs(drawn.reshape(2, 16, 2, 16, 2, 3).mean((2, 4)) - small).mean())

    assert drift(draw(keeping, PAIRS, [5, 6])) < 0.5 * drift(draw(cascade, PAIRS, [5, 6]))


def test_neighbor_maps_are_computed_once_per_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are counted as the compiled code runs: a call inside the loop over steps would count once per step."""
    counted: list[int] = []
    encode = UNet.encode_neighbors

    def counting(self: UNet, *args: Any, **kwargs: Any) -> Any:
        jax.debug.callback(lambda: counted.append(1))
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(UNet, "encode_neighbors", counting)
    monkeypatch.setattr(stage_program, "_shared_program", StageProgram)  # code that was compiled before does not count
    draw(awakened(1), PAIRS, [1], size=16)
    jax.effects_barrier()  # type: ignore[no-untyped-call]
    assert len(counted) == 1
    assert TINY.stages[0].steps > 1


def test_weights_are_loaded_as_saved(cascade: Cascade, tmp_path: Path) -> None:
    cascade.save(tmp_path)
    once = Cascade.load(tmp_path)
    once.save(tmp_path / "again")
    for file in tmp_path.glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()
    assert (draw(once, PAIRS, [3]) == draw(Cascade.load(tmp_path / "again"), PAIRS, [3])).all()


def test_damaged_weights_are_refused_by_name(cascade: Cascade, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no cascade\.json"):
        Cascade.load(tmp_path)
    cascade.save(tmp_path)
    (tmp_path / "stage-16.safetensors").write_bytes((tmp_path / "stage-64.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"stage-16\.safetensors has an unknown tensor conditioning\.augmentation"):
        Cascade.load(tmp_path)
    (tmp_path / "stage-16.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot read"):
        Cascade.load(tmp_path)


def test_guidance_that_a_sampler_does_not_support_is_refused_before_drawing() -> None:
    weighted = Guidance(strategy=Strategy.WEIGHTED, text_weight=2.0)
    unipc = TINY.stages[0].model_copy(update={"sampler": SamplerKind.UNIPC, "guidance": weighted})
    solver = awakened(0, TINY.model_copy(update={"stages": (unipc,)}))
    assert solver.resolve_guidance(GuidanceOptions(text_weight=3.0), 16)[0].text_weight == 3.0
    with pytest.raises(InvalidArgument, match=r"^guidance\.strategy: interleaved changes from step to step") as refused:
        solver.resolve_guidance(GuidanceOptions(strategy=Strategy.INTERLEAVED), 16)
    assert refused.value.field == "guidance.strategy"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 48}, "size: must be one of"),
        ({"seeds": []}, "seeds"),
        ({"neighbors": PAIRS * 9}, "neighbors: at most"),
    ],
)
def test_impossible_requests_are_refused(cascade: Cascade, changed: dict[str, Any], message: str) -> None:
    request: dict[str, Any] = {"neighbors": PAIRS, "seeds": [1], "size": 16, **changed}
    with pytest.raises(ValueError, match=message):
        next(cascade.draw("a kea", **request))
