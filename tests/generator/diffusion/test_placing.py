"""Refining mattes: the filter keeps functions of the colors, and moves edges to those of the image."""

import jax
import jax.numpy as jnp
import numpy as np

from reimagen_generator.diffusion.placing import refined
from reimagen_generator.diffusion.resize import downsample


def test_an_upsampled_matte_follows_the_edges_of_the_large_image() -> None:
    # A disk on a background of another color, at 64 pixels and at 256.
    at = (jnp.arange(256) + 0.5) / 256
    disk = ((at[:, None] - 0.4) ** 2 + (at - 0.55) ** 2 < 0.3**2).astype(jnp.float32)
    large = (disk[..., None] * jnp.asarray([0.8, -0.2, 0.1]) + (1 - disk[..., None]) * jnp.asarray([-0.5, 0.6, 0.9]))[
        None
    ]
    small = downsample(large, 4)
    matte = downsample(jnp.repeat(disk[None, ..., None], 3, axis=-1), 4)[..., 0]
    error = jnp.abs(refined(matte, small, large)[0] - disk)
    enlarged = jax.image.resize(matte, (1, 256, 256), "linear")[0]
    assert float(error.mean()) < 0.25 * float(jnp.abs(enlarged - disk).mean())


def test_a_constant_matte_stays_constant_on_any_image() -> None:
    large = jax.random.uniform(jax.random.key(0), (2, 64, 64, 3), minval=-1.0)
    matte = jnp.full((2, 16, 16), 0.7)
    np.testing.assert_allclose(refined(matte, downsample(large, 4), large), 0.7, atol=1e-4)
