"""Attention against a plain computation in NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reimagen_generator.networks.attention import attend

Arrays = tuple[np.ndarray[Any, np.dtype[np.float32]], ...]

# Rows, queries, keys: with few logits, which are computed at once, and with so many that a CPU takes head after head.
SIZES = [(2, 16, 24), (2, 512, 700)]
HEADS, CHANNELS, VALUES = 2, 8, 6


def arguments(rows: int, queries: int, keys: int, bias: tuple[int, ...]) -> Arrays:
    rng = np.random.default_rng(0)
    shapes = (rows, queries, HEADS, CHANNELS), (rows, keys, HEADS, CHANNELS), (rows, keys, HEADS, VALUES), bias
    query, key, value, biases = (rng.standard_normal(shape, np.float32) for shape in shapes)
    biases[rng.random(bias) < 0.3] = -np.inf
    biases[-1] = -np.inf if bias[0] == rows else biases[-1]  # the last row has no key
    return query, key, value, biases


def expected(query: Any, key: Any, value: Any, bias: Any) -> np.ndarray[Any, Any]:
    result = np.zeros((*query.shape[:3], value.shape[-1]))
    bias = np.broadcast_to(bias, (len(query), HEADS, query.shape[1], key.shape[1]))
    for row, place, head in np.ndindex(query.shape[:3]):
        logits = key[row, :, head].astype(np.float64) @ query[row, place, head] / np.sqrt(CHANNELS)
        logits += bias[row, head, place]
        kept = np.isfinite(logits)
        if kept.any():
            weights = np.exp(logits[kept] - logits[kept].max())
            result[row, place, head] = weights @ value[row, kept, head] / weights.sum()
    return result


@pytest.mark.parametrize(("rows", "queries", "keys"), SIZES)
@pytest.mark.parametrize("shared", ["queries and heads", "rows"])
def test_attention_is_the_weighted_mean_of_the_values(rows: int, queries: int, keys: int, shared: str) -> None:
    bias = (1, HEADS, queries, keys) if shared == "rows" else (rows, 1, 1, keys)
    query, key, value, biases = arguments(rows, queries, keys, bias)
    found = np.asarray(jax.jit(attend)(query, key, value, biases))
    assert np.abs(found - expected(query, key, value, biases)).max() < 2e-6
    if bias[0] == rows:
        assert not found[-1].any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_attention_head_by_head_has_the_same_gradient(dtype: Any) -> None:
    rows, queries, keys = SIZES[1]
    query, key, value, bias = (jnp.asarray(a) for a in arguments(rows, queries, keys, (1, HEADS, queries, keys)))
    query, key, value = (a.astype(dtype) for a in (query, key, value))

    def total(*arrays: jax.Array) -> jax.Array:
        return (attend(*arrays).astype(jnp.float32) ** 2).sum()

    def by_row(*arrays: jax.Array) -> jax.Array:
        """Return attention for so few queries that they are computed at once."""
        query, key, value, bias = arrays
        parts = range(0, queries, 128)
        return jnp.asarray([total(query[:, i : i + 128], key, value, bias[:, :, i : i + 128]) for i in parts]).sum()

    found, wanted = (jax.jit(jax.grad(f, argnums=(0, 1, 2, 3)))(query, key, value, bias) for f in (total, by_row))
    tolerance = 1e-6 if dtype == jnp.float32 else 2e-2
    for one, other in zip(found, wanted, strict=True):
        other = np.asarray(other, np.float32)
        assert np.linalg.norm(np.asarray(one, np.float32) - other) < tolerance * np.linalg.norm(other)


def test_attention_for_an_accelerator_has_no_loop() -> None:
    traced = jax.jit(attend).trace(*arguments(*SIZES[1], (2, 1, 1, SIZES[1][2])))
    loop = {
        platform: "while" in traced.lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "tpu", "cuda")
    }
    assert loop == {"cpu": True, "tpu": False, "cuda": False}
