import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reimagen_generator.networks.layers import GroupNorm


@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_it_equals_flaxs_group_norm(mean: float) -> None:
    """The norm equals its definition in float64, also if the maps are far from zero."""
    random = np.random.default_rng(0)
    x = random.normal(mean, 2.0, (2, 5, 3, 12)).astype(np.float32)
    weight, bias = random.standard_normal((2, 12), np.float32)
    norm = GroupNorm(12, num_groups=4, epsilon=1e-5, rngs=nnx.Rngs(0))
    nnx.update(norm, {"scale": nnx.Param(jnp.asarray(weight)), "bias": nnx.Param(jnp.asarray(bias))})
    grouped = x.astype(np.float64).reshape(2, 5, 3, 4, 3)
    apart = grouped - grouped.mean(axis=(1, 2, 4), keepdims=True)
    expected = apart / np.sqrt((apart**2).mean(axis=(1, 2, 4), keepdims=True) + 1e-5)
    np.testing.assert_allclose(norm(jnp.asarray(x)), expected.reshape(x.shape) * weight + bias, rtol=1e-5, atol=1e-5)


def test_maps_in_half_precision_are_normalized_in_float32() -> None:
    """Sums in half precision would overflow or lose the differences."""
    x = jnp.full((1, 64, 64, 8), 3.0, jnp.bfloat16).at[0, ::2].set(5.0)
    out = GroupNorm(8, num_groups=2, epsilon=1e-5, rngs=nnx.Rngs(0))(x)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(np.unique(np.asarray(out).round(4)), [-1.0, 1.0], atol=1e-4)
