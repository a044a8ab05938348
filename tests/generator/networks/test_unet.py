"""The networks: attention against NumPy, and the effect of dropped conditions."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from reimagen_generator.config.presets import TINY
from reimagen_generator.networks.attention import AttentionBlock, attend
from reimagen_generator.networks.layers import AttentionPool, fold, unfold
from reimagen_generator.networks.neighbors import NeighborAttention
from reimagen_generator.networks.network import LowResolution, Text
from reimagen_generator.networks.registry import build_network


def random(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def test_attend_is_softmax_attention() -> None:
    query, key, value = random(0, 2, 5, 3, 4), random(1, 2, 6, 3, 4), random(2, 2, 6, 3, 7)
    bias = np.array(random(3, 1, 3, 5, 6))
    bias[..., 4] = -np.inf
    result = np.asarray(attend(query, key, value, jnp.asarray(bias)))
    for b in range(2):
        for h in range(3):
            logits = np.asarray(query)[b, :, h] @ np.asarray(key)[b, :, h].T / 2 + bias[0, h]
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            np.testing.assert_allclose(result[b, :, h], weights @ np.asarray(value)[b, :, h], atol=1e-5)


def test_attention_without_keys_is_zero_and_has_finite_gradients() -> None:
    query, key, value = random(0, 1, 5, 2, 4), random(1, 1, 6, 2, 4), random(2, 1, 6, 2, 4)

    def total(query: jax.Array) -> jax.Array:
        return attend(query, key, value, jnp.full((1, 1, 1, 6), -jnp.inf)).sum()

    assert float(total(query)) == 0
    assert np.isfinite(np.asarray(jax.grad(total)(query))).all()


def test_without_neighbors_retrieval_adds_exactly_zero() -> None:
    """Also if every weight is random, including the biases of the last layers."""
    attention = NeighborAttention(16, 8, 8, nnx.Rngs(0))
    state = nnx.state(attention, nnx.Param)
    nnx.update(attention, jax.tree.map(lambda a: a + 0.3, state))
    keys_values = attention.keys_values(random(0, 2, 3, 4, 4, 16), random(1, 2, 3, 8, 8, 8))
    mask = jnp.asarray([[True, False, True], [False, False, False]])
    coarse, fine = attention(random(2, 2, 4, 4, 16), keys_values, mask)
    assert fine is not None
    assert coarse.shape == (2, 4, 4, 16)
    assert fine.shape == (2, 8, 8, 8)
    for added in (coarse, fine):
        assert np.abs(np.asarray(added[0])).max() > 0
        assert (np.asarray(added[1]) == 0).all()


def test_a_masked_neighbor_changes_nothing() -> None:
    attention = NeighborAttention(16, 0, 8, nnx.Rngs(0))
    nnx.update(attention, jax.tree.map(lambda a: a + 0.3, nnx.state(attention, nnx.Param)))
    x, maps = random(0, 1, 4, 4, 16), random(1, 1, 2, 4, 4, 16)
    mask = jnp.asarray([[True, False]])
    one, _ = attention(x, attention.keys_values(maps, None), mask)
    other, _ = attention(x, attention.keys_values(maps.at[:, 1].add(5.0), None), mask)
    np.testing.assert_array_equal(one, other)


def test_a_weight_counts_like_equal_neighbors() -> None:
    attention = NeighborAttention(16, 8, 8, nnx.Rngs(0))
    nnx.update(attention, jax.tree.map(lambda a: a + 0.3, nnx.state(attention, nnx.Param)))
    x, maps, fine = random(0, 1, 4, 4, 16), random(1, 1, 2, 4, 4, 16), random(2, 1, 2, 8, 8, 8)

    def added(which: list[int], weights: list[float] | None = None) -> list[jax.Array]:
        picked = jnp.asarray(which)
        mask = jnp.ones((1, len(which)), bool)
        log_weights = None if weights is None else jnp.log(jnp.asarray([weights]))
        coarse, finer = attention(x, attention.keys_values(maps[:, picked], fine[:, picked]), mask, log_weights)
        assert finer is not None
        return [coarse, finer]

    for weighted, equal in (([2.0, 1.0], [0, 0, 1]), ([1.0, 3.0], [0, 1, 1, 1]), ([0.0, 1.0], [1])):
        for found, wanted in zip(added([0, 1], weighted), added(equal), strict=True):
            np.testing.assert_allclose(found, wanted, atol=2e-5)
    for found, wanted in zip(added([0, 1], [1.0, 1.0]), added([0, 1]), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_retrieval_attention_starts_as_the_identity() -> None:
    attention = NeighborAttention(16, 8, 8, nnx.Rngs(0))
    keys_values = attention.keys_values(random(0, 1, 2, 4, 4, 16), random(1, 1, 2, 8, 8, 8))
    for added in attention(random(2, 1, 4, 4, 16), keys_values, jnp.ones((1, 2), bool)):
        assert added is not None
        assert (np.asarray(added) == 0).all()


def test_pooling_an_empty_text_is_constant_with_finite_gradients() -> None:
    pool = AttentionPool(8, 16, 2, nnx.Rngs(0))
    mask = jnp.zeros((1, 5), bool)
    np.testing.assert_array_equal(pool(random(0, 1, 5, 8), mask), pool(random(1, 1, 5, 8), mask))
    gradient = jax.grad(lambda tokens: pool(tokens, mask).sum())(random(0, 1, 5, 8))
    assert np.isfinite(np.asarray(gradient)).all()


def test_fold_puts_each_square_into_one_pixel() -> None:
    x = random(0, 2, 8, 8, 3)
    folded = fold(x, 4)
    np.testing.assert_array_equal(folded[1, 0, 1].reshape(4, 4, 3), x[1, :4, 4:])
    np.testing.assert_array_equal(unfold(folded, 4), x)


def test_a_residual_network_starts_as_its_low_resolution_image() -> None:
    config = next(stage.network for stage in TINY.stages if stage.network.low_resolution)
    network = build_network(config, nnx.Rngs(0))
    text = Text(random(0, 2, 3, config.text_channels), jnp.ones((2, 3), bool))
    low = LowResolution(random(1, 2, 16, 16, 3), jnp.zeros(2))
    np.testing.assert_array_equal(network(random(2, 2, 16, 16, 3), jnp.zeros(2), text, None, low), low.image)


def test_attention_to_the_text_only_ignores_the_image() -> None:
    block = AttentionBlock(16, 8, 8, nnx.Rngs(0), to_text_only=True)
    nnx.update(block, jax.tree.map(lambda a: a + 0.3, nnx.state(block, nnx.Param)))
    tokens, mask = random(0, 1, 3, 8), jnp.ones((1, 3), bool)
    x = random(1, 1, 4, 4, 16)
    other = x.at[:, 0, 0].add(1.0)
    np.testing.assert_array_equal(block(x, tokens, mask)[:, 1:], block(other, tokens, mask)[:, 1:])
