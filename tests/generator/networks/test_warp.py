"""The warp: it samples like an independent interpolation, at its offset."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.ndimage import map_coordinates

from reimagen_generator.networks.layers import fold
from reimagen_generator.networks.warp import Warp, bilinear, cell_centers

RNG = np.random.default_rng(0)
SIDE, CELLS, CHANNELS, FINE, PATCH = 16, 4, 8, 6, 2


def test_it_samples_like_an_independent_interpolation() -> None:
    image, at = RNG.standard_normal((5, 7, 3)), RNG.uniform(-0.2, 1.2, (40, 2))
    at[:4] = [
        (0.0, 0.0),
        (1.0, 1.0),
        (0.5 / 5, 0.5 / 7),
        (4.5 / 5, 6.5 / 7),
    ]  # corners, and the centers of their pixels
    expected = [
        map_coordinates(image[..., channel], (at * (5, 7) - 0.5).T, order=1, mode="nearest") for channel in range(3)
    ]
    np.testing.assert_allclose(bilinear(jnp.asarray(image), jnp.asarray(at)), np.stack(expected, -1), atol=1e-5)


def fetching(heads: int) -> Warp:
    """Return a warp whose `out` returns the first channels of the sampled values."""
    warp = Warp(CHANNELS, FINE, PATCH, heads, nnx.Rngs(0))
    rows, columns = warp.out.kernel.shape
    warp.out.kernel.set_value(jnp.eye(rows, columns))
    return warp


def fetched(warp: Warp, pixels: jax.Array, mask: list[bool]) -> jax.Array:
    """Return the warp's samples for one image; the first channels are the first neighbor's folded pixels."""
    n = len(pixels)
    coarse = jnp.asarray(RNG.standard_normal((1, n, CELLS, CELLS, CHANNELS)), jnp.float32)
    maps = jnp.zeros((1, n, SIDE // PATCH, SIDE // PATCH, FINE))
    x = jnp.asarray(RNG.standard_normal((1, CELLS, CELLS, CHANNELS)), jnp.float32)
    return warp(x, warp.sources(coarse, maps, pixels[None]), jnp.asarray([mask]))[0]


def test_the_warp_starts_as_zero() -> None:
    warp = Warp(CHANNELS, FINE, PATCH, 2, nnx.Rngs(0))
    assert not fetched(warp, jnp.ones((2, SIDE, SIDE, 3)), [True, True]).any()


@pytest.mark.parametrize("mask", [[True, False], [False, True]])
def test_the_warp_starts_at_its_own_position_of_the_existing_neighbors(mask: list[bool]) -> None:
    ramp = cell_centers(SIDE, SIDE)  # a neighbor's pixels are their positions, so a sample is its position
    pixels = jnp.stack([jnp.concatenate([ramp, jnp.full((SIDE, SIDE, 1), level)], -1) for level in (0.0, 1.0)])
    seen = fetched(fetching(1), pixels, mask)
    expected = fold(pixels[mask.index(True)][None], PATCH)[0, ..., :FINE]
    inner = slice(2, -2)  # at the edge there are more positions on one side
    np.testing.assert_allclose(seen[inner, inner], expected[inner, inner], atol=0.02)


def test_the_warp_samples_at_its_offset() -> None:
    warp, moved = fetching(1), 0.25
    assert warp.pointer.bias is not None
    warp.pointer.bias.set_value(jnp.asarray([0.0, moved]))
    ramp = jnp.concatenate([cell_centers(SIDE, SIDE), jnp.zeros((SIDE, SIDE, 1))], -1)
    seen = fetched(warp, ramp[None], [True])
    expected = fold(ramp[None], PATCH)[0, ..., :FINE] + moved * jnp.asarray([0, 1, 0, 0, 1, 0])
    np.testing.assert_allclose(seen[2:-2, 2:4], expected[2:-2, 2:4], atol=0.02)


def test_without_neighbors_the_warp_adds_exactly_zero() -> None:
    assert not fetched(fetching(2), jnp.ones((2, SIDE, SIDE, 3)), [False, False]).any()


def test_a_weight_counts_like_equal_neighbors() -> None:
    warp = fetching(2)
    nnx.update(warp, jax.tree.map(lambda a: a + 0.1, nnx.state(warp, nnx.Param)))
    x, coarse, maps, pixels = (
        jnp.asarray(RNG.standard_normal(shape), jnp.float32)
        for shape in (
            (1, CELLS, CELLS, CHANNELS),
            (1, 2, CELLS, CELLS, CHANNELS),
            (1, 2, SIDE // PATCH, SIDE // PATCH, FINE),
            (1, 2, SIDE, SIDE, 3),
        )
    )

    @jax.jit
    def update(picked: jax.Array, weights: jax.Array) -> jax.Array:
        sources = warp.sources(coarse[:, picked], maps[:, picked], pixels[:, picked])
        return warp(x, sources, jnp.ones((1, len(picked)), bool), jnp.log(weights)[None])

    def updated(which: list[int], weights: list[float]) -> np.ndarray:
        return np.asarray(update(jnp.asarray(which), jnp.asarray(weights)))

    for weights, equal in (([2.0, 1.0], [0, 0, 1]), ([1.0, 3.0], [0, 1, 1, 1]), ([0.0, 1.0], [1])):
        np.testing.assert_allclose(updated([0, 1], weights), updated(equal, [1.0] * len(equal)), atol=5e-5)
    assert np.abs(updated([0, 1], [2.0, 1.0]) - updated([0, 1], [1.0, 1.0])).max() > 1e-3
