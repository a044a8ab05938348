"""Upsampling of the low-resolution image to a stage's size."""

import jax.numpy as jnp
import numpy as np
import pytest

from reimagen_generator.config.cascade import Upsampling
from reimagen_generator.diffusion.resize import downsample, low_res_consistent, upsample


@pytest.mark.parametrize("kind", Upsampling)
def test_resizing_keeps_a_constant_image(kind: Upsampling) -> None:
    np.testing.assert_allclose(upsample(jnp.full((1, 4, 4, 3), 0.3), 4, kind), np.full((1, 16, 16, 3), 0.3), rtol=1e-6)


def test_corner_aligned_upsampling_is_linear_between_fixed_corners() -> None:
    """An image that is linear from corner to corner stays linear from corner to corner."""
    rows, columns = np.meshgrid(np.linspace(-1, 1, 3), np.linspace(0, 5, 4), indexing="ij")
    large_rows, large_columns = np.meshgrid(np.linspace(-1, 1, 12), np.linspace(0, 5, 16), indexing="ij")
    small = jnp.asarray(2 * rows - columns, jnp.float32)[None, :, :, None]
    expected = (2 * large_rows - large_columns)[None, :, :, None]
    np.testing.assert_allclose(upsample(small, 4, Upsampling.BILINEAR_CORNERS), expected, atol=1e-5)


def test_bicubic_keeps_the_mean_of_each_pixel() -> None:
    """No side loses half a pixel: upsampling and downsampling does not shift the image."""
    x = np.zeros((1, 8, 8, 3), np.float32)
    x[0, 3, 5] = 1.0
    back = np.asarray(downsample(upsample(jnp.asarray(x), 4, Upsampling.BICUBIC), 4))
    assert back[0, :, :, 0].argmax() == 3 * 8 + 5
    np.testing.assert_allclose(back[0, 2, 5], back[0, 4, 5], atol=1e-6)


def test_a_consistent_image_downsamples_to_the_low_resolution_image_and_keeps_detail() -> None:
    rng = np.random.default_rng(0)
    small, detailed = (jnp.asarray(rng.uniform(-0.5, 0.5, (1, side, side, 3))) for side in (8, 32))
    once = low_res_consistent(detailed, small, 4, Upsampling.BICUBIC)
    assert jnp.abs(downsample(once, 4) - small).mean() < 0.5 * jnp.abs(downsample(detailed, 4) - small).mean()
    many = once
    for _ in range(30):
        many = low_res_consistent(many, small, 4, Upsampling.BICUBIC)
    np.testing.assert_allclose(downsample(many, 4), small, atol=1e-3)
    np.testing.assert_allclose(low_res_consistent(many, small, 4, Upsampling.BICUBIC), many, atol=2e-3)
    kept = np.corrcoef((many - upsample(small, 4)).ravel(), (detailed - upsample(downsample(detailed, 4), 4)).ravel())
    assert kept[0, 1] > 0.9
