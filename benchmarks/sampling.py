"""Samplers and guidance strategies compared with the exact result, at equal evaluations of the network.

The network computes a Gaussian mixture exactly (`reimagen_evaluation/mixture.py`), so that only the sampler's error
remains. The error is the distance of a run's points from those in the limit of many steps, from the same noise: its
median, in units of the data's own deviation.

    python -m benchmarks.sampling
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.shared.machine import machine
from reimagen_evaluation.mixture import POINTS, ExactNetwork, Mixture, conditions
from reimagen_generator.config.cascade import (
    Guidance,
    Prediction,
    SamplerKind,
    StageConfig,
    Strategy,
    Thresholding,
)
from reimagen_generator.diffusion.stage import Stage

COUNT = 2000
LIMIT = 1000
EVALUATIONS = (24, 48, 96, 192, 384)
EVALUATIONS_A_STEP = {Strategy.JOINT: 2, Strategy.WEIGHTED: 3, Strategy.INTERLEAVED: 2}
STEPS = (16, 32, 64, 128)
WEIGHT = 2.0
ELSEWHERE = 0.5


@cache
def draw(sampler: SamplerKind, strategy: Strategy, steps: int) -> NDArray[np.float32]:
    """Return the points that a sampler draws with a strategy, from the same noise each time."""
    stage = StageConfig(
        size=1,
        network=POINTS,
        prediction=Prediction.EPSILON,
        sampler=sampler,
        steps=steps,
        guidance=Guidance(strategy=strategy, text_weight=WEIGHT, neighbor_weight=WEIGHT),
        thresholding=Thresholding(percentile=1.0, maximum=1.0),
    )
    keys = jax.vmap(jax.random.key)(jnp.arange(COUNT))
    network = ExactNetwork(stage, Mixture.example())
    points = Stage(stage, network, None).sample_at_once(conditions(COUNT), stage.guidance, keys)
    return np.asarray(points).reshape(COUNT, 3)


def distances(sampler: SamplerKind, strategy: Strategy, steps: int) -> NDArray[np.float64]:
    """Return the distances of the points from the limit; the limit of interleaved guidance is that of weighted."""
    limit_of = Strategy.WEIGHTED if strategy is Strategy.INTERLEAVED else strategy
    _, covariance = Mixture.example().moments(text=True, neighbors=True)
    apart = draw(sampler, strategy, steps) - draw(SamplerKind.DPM_SOLVER, limit_of, LIMIT)
    distance: NDArray[np.float64] = np.linalg.norm(apart, axis=1) / np.sqrt(np.trace(covariance))
    return distance


def main() -> None:
    """Print both tables."""
    print(f"Samplers on an exactly known mixture, {COUNT:,} points; {machine()}", flush=True)
    deterministic = [sampler for sampler in SamplerKind if sampler is not SamplerKind.DDPM]
    print(f"\nweighted guidance, weights {WEIGHT}\n{'steps':>11}" + "".join(f"{s:>14}" for s in deterministic))
    for steps in STEPS:
        row = [np.median(distances(sampler, Strategy.WEIGHTED, steps)) for sampler in deterministic]
        print(f"{steps:>11}" + "".join(f"{value:>14.5f}" for value in row), flush=True)
    print(f"\nDDIM\n{'evaluations':>11}" + "".join(f"{strategy:>14}" for strategy in Strategy) + f"{'elsewhere':>14}")
    for evaluations in EVALUATIONS:
        found = {s: distances(SamplerKind.DDIM, s, evaluations // EVALUATIONS_A_STEP[s]) for s in Strategy}
        elsewhere = np.mean(found[Strategy.INTERLEAVED] > ELSEWHERE)
        row = [np.median(distance) for distance in found.values()]
        print(f"{evaluations:>11}" + "".join(f"{v:>14.5f}" for v in row) + f"{elsewhere:>14.2%}", flush=True)
    print(f"\nthe limit is DPM-Solver++(2M) in {LIMIT} steps, for interleaved with weighted guidance")
    print(f"elsewhere: interleaved's points that are more than {ELSEWHERE} deviations from it")


if __name__ == "__main__":
    main()
