"""Imagen's U-Net: its parts against NumPy, and the invariance under retrieval, checkpointing and bfloat16."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pydantic import ValidationError

from reimagen_generator.config.networks import ComputeType, ImagenUNetConfig, LevelAttention, TextNorm
from reimagen_generator.config.presets_deepfloyd import DEEPFLOYD_IF_M, with_retrieval
from reimagen_generator.networks.attention import TokenGroupNorm
from reimagen_generator.networks.layers import ClassTokenPool
from reimagen_generator.networks.network import Network, Text
from reimagen_generator.networks.registry import build_network

SIDE = 4
SMALL = ImagenUNetConfig(
    widths=(32, 32),
    blocks=(1, 1),
    attention=(LevelAttention.NONE, LevelAttention.SELF_AND_TEXT),
    neighbor_attention=(False, False),
    head_channels=16,
    text_channels=12,
    text_width=32,
    pool_heads=2,
    conditioning=32,
    learned_variance=True,
)


def random(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def randomized(config: ImagenUNetConfig) -> Network:
    """Set random weights also where they start as zero, except in the last layers of the retrieval attention."""
    network = build_network(config, nnx.Rngs(0))
    state = nnx.state(network, nnx.Param)
    for place, (path, value) in enumerate(nnx.to_flat_state(state)):
        if not {"out", "fine_out"} & set(path) or "neighbor_attention" not in path:
            value[...] = value[...] + 0.1 * random(place, *value.shape)
    nnx.update(network, state)
    return network


def text(rows: int) -> Text:
    return Text(random(1, rows, 5, 12), jnp.arange(5) < jnp.arange(1, rows + 1)[:, None])


def evaluate(network: Network, *, neighbors: bool) -> np.ndarray[Any, Any]:
    """Return two images; the first has one neighbor and the second two."""
    graph, state = nnx.split(network)

    @jax.jit
    def run(state: nnx.State[Any, Any]) -> jax.Array:
        network: Network = nnx.merge(graph, state)
        mask = jnp.asarray([[True, False], [True, True]])
        encoded = network.encode_neighbors(random(2, 2, 2, SIDE, SIDE, 3), text(4), mask) if neighbors else None
        return network(random(3, 2, SIDE, SIDE, 3), jnp.asarray([0.2, 0.9]), text(2), encoded)

    return np.asarray(run(state))


def test_adding_retrieval_does_not_change_the_output() -> None:
    with_neighbors = randomized(SMALL.model_copy(update={"neighbor_attention": (False, True)}))
    plain = build_network(SMALL, nnx.Rngs(1))
    state = nnx.state(plain, nnx.Param)
    trained = dict(nnx.to_flat_state(nnx.state(with_neighbors, nnx.Param)))
    for path, value in nnx.to_flat_state(state):
        value[...] = trained[path][...]
    nnx.update(plain, state)
    before = evaluate(plain, neighbors=False)
    assert before.shape == (2, SIDE, SIDE, 6)
    np.testing.assert_array_equal(evaluate(with_neighbors, neighbors=True), before)


def test_checkpointing_does_not_change_gradients() -> None:
    """Each block is recomputed: one down and two up at each level, the resampling blocks, and the middle two."""
    network = randomized(SMALL)

    def gradient(network: Network) -> tuple[nnx.State[Any, Any], int]:
        graph, state = nnx.split(network)

        def loss(state: nnx.State[Any, Any]) -> jax.Array:
            network: Network = nnx.merge(graph, state)
            return (network(random(3, 2, SIDE, SIDE, 3), jnp.asarray([0.2, 0.9]), text(2)) ** 2).mean()

        blocks = sum("remat" in equation.primitive.name for equation in jax.make_jaxpr(loss)(state).eqns)
        gradients: nnx.State[Any, Any] = jax.jit(jax.grad(loss))(state)
        return gradients, blocks

    plain, none = gradient(network)
    network.config = SMALL.model_copy(update={"checkpointing": True})
    checkpointed, blocks = gradient(network)
    assert (none, blocks) == (0, 10)
    # The tolerance of float32 networks (docs/notes/parity.md), relative to the largest gradient of all: a bias before a
    # norm has no effect, so its gradient is rounding alone.
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(plain))
    for (path, one), (_, other) in zip(nnx.to_flat_state(plain), nnx.to_flat_state(checkpointed), strict=True):
        np.testing.assert_allclose(one[...], other[...], rtol=0, atol=1e-4 * largest, err_msg=str(path))


def test_a_checkpointed_network_draws_the_same_in_a_compiled_loop() -> None:
    network = randomized(SMALL)

    def drawn(network: Network) -> jax.Array:
        graph, state = nnx.split(network)

        def step(x: jax.Array, time: jax.Array) -> tuple[jax.Array, None]:
            network: Network = nnx.merge(graph, state)
            return network(x, jnp.tile(time, 2), text(2))[..., :3], None

        x: jax.Array
        x, _ = jax.jit(partial(jax.lax.scan, step))(random(3, 2, SIDE, SIDE, 3), jnp.asarray([0.9, 0.2]))
        return x

    plain = drawn(network)
    network.config = SMALL.model_copy(update={"checkpointing": True})
    np.testing.assert_allclose(drawn(network), plain, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_close_to_float32_and_returns_float32() -> None:
    exact = evaluate(randomized(SMALL), neighbors=False)
    near = evaluate(randomized(SMALL.model_copy(update={"dtype": ComputeType.BFLOAT16})), neighbors=False)
    assert near.dtype == np.float32
    assert 0 < np.abs(near - exact).max() < 0.05 * np.abs(exact).max()


def test_pooling_is_attention_from_a_class_token() -> None:
    """Keys and values are computed for each token; the first row has three tokens, the second none."""
    pool = ClassTokenPool(8, 6, 2, nnx.Rngs(0))
    tokens, mask = random(0, 2, 4, 8), jnp.asarray([[True, True, True, False], [False] * 4])
    result = np.asarray(pool(tokens, mask))
    for row, length in enumerate((3, 0)):
        normed = np.asarray(pool.norm_in(tokens[row, :length]))
        position = np.asarray(pool.position[...])
        class_token = (normed.mean(axis=0) if length else 0) + position
        everything = np.concatenate([class_token[None], normed])
        query, key, value = (
            np.asarray(layer(jnp.asarray(x))).reshape(-1, 2, 4)
            for layer, x in ((pool.query, class_token[None]), (pool.key, everything), (pool.value, everything))
        )
        logits = np.einsum("qhc,khc->hk", query, key) / 2
        weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        pooled = np.einsum("hk,khc->hc", weights, value).reshape(-1)
        expected = np.asarray(pool.norm_out(pool.out(jnp.asarray(pooled))))
        np.testing.assert_allclose(result[row], expected, atol=1e-5)


def test_a_group_norm_of_tokens_ignores_masked_tokens() -> None:
    norm = TokenGroupNorm(64, nnx.Rngs(0))
    tokens = 3 * random(0, 2, 5, 64) + 1
    mask = jnp.asarray([[True, True, False, False, False], [False] * 5])
    result = np.asarray(norm(tokens, mask))
    groups = np.asarray(tokens)[0, :2].reshape(2, 32, 2)
    mean, variance = groups.mean(axis=(0, 2)), groups.var(axis=(0, 2))
    expected = (groups - mean[:, None]) / np.sqrt(variance + 1e-5)[:, None]
    np.testing.assert_allclose(result[0, :2], expected.reshape(2, 64), atol=1e-4)
    assert np.isfinite(result).all()


def test_retrieval_is_added_at_the_coarse_levels() -> None:
    stage_i, stage_ii = (stage.network for stage in DEEPFLOYD_IF_M.stages)
    assert isinstance(stage_i, ImagenUNetConfig)
    assert isinstance(stage_ii, ImagenUNetConfig)
    assert with_retrieval(stage_i, 64).neighbor_attention == (False, False, True, True)
    assert with_retrieval(stage_ii, 256).neighbor_attention == (False, False, False, False, True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attention", (LevelAttention.NONE,)),
        ("conditioning", 0),
        ("middle_attention", LevelAttention.NONE),
        ("pool_heads", 5),
        ("text_norm", "none"),
        ("text_width", 40),
        ("widths", (32, 48)),
    ],
)
def test_an_impossible_configuration_is_refused_by_its_field(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        ImagenUNetConfig.model_validate(SMALL.model_dump() | {"text_norm": TextNorm.GROUP, field: value})
