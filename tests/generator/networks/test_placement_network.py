"""The placement network: samples have the moments of its distribution, and depend only on the seed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from reimagen_generator.config.placement import PlacementConfig
from reimagen_generator.networks.network import Text
from reimagen_generator.networks.placement import COPIES
from reimagen_generator.networks.placement_network import (
    PlacementDistribution,
    PlacementNetwork,
    leader_of,
    sample_placements,
)

TINY = PlacementConfig(side=16, image_side=8, widths=(8, 8, 8, 8), text_width=8, width=16, text_channels=12)


def distribution(rows: int, neighbors: int = 1) -> PlacementDistribution:
    """Return the same distribution for all rows."""
    shape = (rows, neighbors, COPIES)
    return PlacementDistribution(
        matte=jnp.zeros((rows, neighbors, 4, 4)),
        box=jnp.broadcast_to(jnp.asarray([0.5, 0.4, 0.7]), (rows, neighbors, 3)),
        presence=jnp.broadcast_to(jnp.asarray([1.0, 2.0, -2.0]), shape),
        log_size=jnp.full(shape, -1.5),
        center=jnp.broadcast_to(jnp.asarray([0.4, 0.6]), (*shape, 2)),
        slope=jnp.broadcast_to(jnp.asarray([0.0, -0.3]), (*shape, 2)),
        log_deviation=jnp.broadcast_to(jnp.log(jnp.asarray([0.1, 0.05, 0.02, 0.03])), (*shape, 4)),
        turn=jnp.broadcast_to(jnp.asarray([0.0, 2.0]), (*shape, 2)),
        mirrored=jnp.full(shape, jnp.log(0.25 / 0.75)),
    )


def test_samples_have_the_moments_of_the_distribution() -> None:
    rows = 4_000
    keys, uncounted = jax.random.split(jax.random.key(0), rows), jnp.zeros((rows, 1), bool)  # overlaps do not matter
    drawn = sample_placements(distribution(rows), jnp.zeros((rows, 1), int), uncounted, keys)
    size, center = np.log(drawn.size[:, 0, 0]), np.asarray(drawn.center[:, 0, 0])
    cut = 0.88  # the standard deviation of a standard normal cut off at 2
    assert abs(size.mean() + 1.5) < 0.01
    assert abs(size.std() - 0.1 * cut) < 0.005
    assert np.allclose(center.mean(axis=0), (0.4, 0.6), atol=0.01)
    assert abs(np.polyfit(size, center[:, 1], 1)[0] + 0.3) < 0.03
    assert abs(np.asarray(drawn.angle[:, 0, 0]).mean() - np.pi / 2) < 0.01
    assert abs(np.asarray(drawn.mirrored[:, 0, 0]).mean() - 0.25) < 0.03
    assert np.asarray(drawn.present).all(axis=0).tolist() == [[True, True, False]]


def test_references_of_one_object_share_a_placement() -> None:
    leaders = jnp.asarray([leader_of(["a fox", "a kite", "a fox"])] * 2)
    keys = jax.random.split(jax.random.key(3), 2)
    objects = jnp.asarray([[True, True, False]] * 2)
    both = sample_placements(distribution(2, 3), leaders, objects, keys)
    np.testing.assert_array_equal(both.center[:, 0], both.center[:, 2])
    assert not np.allclose(both.center[:, 0], both.center[:, 1])
    alone = sample_placements(distribution(1, 3), leaders[1:], objects[1:], keys[1:])
    np.testing.assert_array_equal(both.size[1], alone.size[0])


def test_objects_are_placed_without_much_overlap() -> None:
    """Centers on both sides of the middle, at random, would often be on one side."""
    rows = 200
    wide = replace(
        distribution(rows, 2),
        presence=jnp.broadcast_to(jnp.asarray([1.0, -1.0, -1.0]), (rows, 2, COPIES)),
        log_size=jnp.full((rows, 2, COPIES), jnp.log(0.3)),
        log_deviation=jnp.broadcast_to(jnp.log(jnp.asarray([0.05, 0.25, 0.02, 0.03])), (rows, 2, COPIES, 4)),
    )
    leaders, keys = jnp.broadcast_to(jnp.arange(2), (rows, 2)), jax.random.split(jax.random.key(1), rows)

    def distances(*, is_object: bool) -> np.ndarray:
        drawn = sample_placements(wide, leaders, jnp.full((rows, 2), is_object), keys)
        x = np.asarray(drawn.center[..., 0, 0])
        return np.asarray(np.abs(x[:, 0] - x[:, 1]))

    assert (distances(is_object=True) > 0.18).mean() > 0.97
    assert (distances(is_object=False) > 0.18).mean() < 0.7


def test_each_neighbor_is_placed_by_its_own_caption() -> None:
    network = PlacementNetwork(TINY, nnx.Rngs(0))
    keys = jax.random.split(jax.random.key(0), 4)
    prompt = Text(jax.random.normal(keys[0], (1, 5, 12)), jnp.ones((1, 5), bool))
    captions = Text(jnp.stack([prompt.tokens[0, :2], prompt.tokens[0, 3:]]), jnp.ones((2, 2), bool))
    reference = jnp.tile(jax.random.uniform(keys[1], (1, 1, 16, 16, 3)), (1, 2, 1, 1, 1))
    objects, noised = jnp.ones((1, 2), bool), (jnp.zeros((1, 8, 8, 3)), jnp.ones(1))
    reported = network(reference, prompt, captions, objects, *noised)
    swapped = Text(captions.tokens[::-1], captions.mask)
    other = network(reference, prompt, swapped, objects, *noised)
    assert reported.matte.shape == (1, 2, 16, 16)
    assert not np.allclose(reported.center[0, 0], reported.center[0, 1])
    np.testing.assert_allclose(reported.center[0, 0], other.center[0, 1], atol=1e-5)
