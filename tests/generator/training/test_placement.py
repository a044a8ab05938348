"""Training with placements: the loss equals SciPy's likelihoods and is minimal at the truth, and crops move them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from reimagen_generator.diffusion.resize import to_float
from reimagen_generator.networks.placement import COPIES, Placements, place
from reimagen_generator.networks.placement_network import PlacementDistribution
from reimagen_generator.text.hashed_ngrams import HashedNgramEncoder
from reimagen_generator.training.data import NeighborTruth, Sample, SampleNeighbor, collate
from reimagen_generator.training.placement import ReferenceTruth, jittered, placement_loss

SHAPE = (2, 2, COPIES)
MASK = jnp.asarray([[True, True], [True, False]])


def some(number: int, *shape: int, low: float = 0.2, high: float = 0.8) -> jax.Array:
    return jax.random.uniform(jax.random.key(number), shape, minval=low, maxval=high)


TRUTH = ReferenceTruth(
    mattes=(255 * some(0, 2, 2, 8, 8)).astype(jnp.uint8),
    placements=Placements(
        box=some(1, 2, 2, 3),
        center=some(2, *SHAPE, 2),
        size=some(3, *SHAPE),
        mirrored=some(4, *SHAPE) > 0.5,
        angle=some(5, *SHAPE, low=-3, high=3),
        present=jnp.broadcast_to(jnp.asarray([True, True, False]), SHAPE),
    ),
    canvas=jnp.zeros((2, 2), int),
)
DISTRIBUTION = PlacementDistribution(
    matte=some(6, 2, 2, 4, 4, low=-2, high=2),
    box=some(7, 2, 2, 3),
    presence=some(8, *SHAPE, low=-2, high=2),
    log_size=some(9, *SHAPE, low=-1, high=0),
    center=some(10, *SHAPE, 2),
    slope=some(11, *SHAPE, 2, low=-0.3, high=0.3),
    log_deviation=some(12, *SHAPE, 4, low=-2, high=0),
    turn=some(13, *SHAPE, 2),
    mirrored=some(14, *SHAPE, low=-2, high=2),
)


def test_the_loss_is_the_sum_of_the_likelihoods() -> None:
    d, true = jax.tree.map(np.asarray, (DISTRIBUTION, TRUTH.placements))
    opacity = np.asarray(TRUTH.mattes, float).reshape(2, 2, 4, 2, 4, 2).mean(axis=(3, 5)) / 255
    expected = np.zeros((2, 2))
    for row in range(2):
        for rank in range(2):
            share = 1 / (1 + np.exp(-d.matte[row, rank]))
            matte = -(opacity[row, rank] * np.log(share) + (1 - opacity[row, rank]) * np.log(1 - share)).mean()
            total = 4 * matte + 4 * np.abs(d.box - true.box)[row, rank].sum()
            for copy in range(COPIES):
                at = row, rank, copy
                total -= stats.bernoulli.logpmf(true.present[at], 1 / (1 + np.exp(-d.presence[at])))
                if not true.present[at]:
                    continue
                deviation = np.exp(d.log_deviation[at])
                apart = np.log(true.size[at]) - d.log_size[at]
                total -= stats.norm.logpdf(apart, scale=deviation[0])
                mean = d.center[at] + d.slope[at] * apart
                total -= stats.norm.logpdf(true.center[at], mean, deviation[1:3]).sum()
                turned = np.angle(np.exp(1j * (true.angle[at] - np.arctan2(d.turn[at][1], d.turn[at][0]))))
                total -= stats.norm.logpdf(turned, scale=deviation[3]) + 2 * np.log(2 * np.pi)
                direction = (np.cos(true.angle[at]), np.sin(true.angle[at]))
                total += 5 * ((d.turn[at] - direction) ** 2).sum()
                total -= stats.bernoulli.logpmf(true.mirrored[at], 1 / (1 + np.exp(-d.mirrored[at])))
            expected[row, rank] = total
    loss = placement_loss(DISTRIBUTION, TRUTH, MASK)
    np.testing.assert_allclose(loss, [expected[0].mean(), expected[1, 0]], rtol=1e-4)


def test_errors_are_small_except_for_the_configured_share() -> None:
    rows = 2_000
    many = jax.tree.map(lambda leaf: jnp.repeat(leaf[:1], rows, axis=0), TRUTH.placements)
    shown = jittered(jax.random.key(0), many, 0.3, super_resolution=False)
    apart = np.abs(np.asarray(shown.center - many.center)).max(axis=(1, 2, 3))
    assert 0.25 < (apart > 0.03).mean() < 0.35
    assert 0 < (np.asarray(shown.mirrored != many.mirrored)).mean() < 0.06
    exact = jittered(jax.random.key(0), many, 0.0, super_resolution=False)
    assert np.abs(np.asarray(exact.center - many.center)).max() < 0.04
    np.testing.assert_array_equal(exact.present, many.present)
    np.testing.assert_array_equal(replace(exact, box=many.box).box, exact.box)
    upsampled = jittered(jax.random.key(0), many, 0.0, super_resolution=True)
    np.testing.assert_allclose(upsampled.center - many.center, 0.1 * (exact.center - many.center), atol=1e-6)
    np.testing.assert_allclose(jnp.log(upsampled.size / many.size), 0.1 * jnp.log(exact.size / many.size), atol=1e-5)


def test_a_crop_shows_its_part_of_the_placed_references() -> None:
    rng = np.random.default_rng(0)
    placements = ((0.4, 0.55, 0.5, 0.0, 0.4), (0.8, 0.3, 0.3, 1.0, -1.0))
    truth = NeighborTruth(box=(0.5, 0.45, 0.7), placements=placements)
    neighbor = SampleNeighbor(
        rng.integers(0, 256, (64, 64, 3), np.uint8), "a fox", rng.integers(0, 256, (64, 64), np.uint8), truth
    )
    whole = Sample(rng.integers(0, 256, (64, 64, 3), np.uint8), "two foxes", (neighbor,))
    rows, columns = slice(8, 40), slice(24, 56)
    cropped = replace(
        whole,
        image=whole.image[rows, columns],
        neighbors=(replace(neighbor, truth=truth.within(24 / 64, 8 / 64, 32 / 64)),),
    )

    def layers(sample: Sample) -> np.ndarray:
        batch = collate([sample], HashedNgramEncoder(), 1)
        assert batch.truth is not None
        images, mattes = to_float(batch.neighbor_images), batch.truth.mattes / 255
        return np.asarray(
            place(images, mattes, batch.truth.placements, batch.truth.canvas, sample.image.shape[0]).layers
        )

    found = layers(cropped)
    assert np.abs(found).max() > 0.1
    np.testing.assert_allclose(found, layers(whole)[:, :, rows, columns], atol=1e-4)
