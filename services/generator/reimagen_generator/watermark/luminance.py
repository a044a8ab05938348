"""Operations on the luminance of images that embedding and detection share."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

# BT.601's weights, as in JPEG. They sum to 1: adding a number to all channels adds it to the luminance, and no color.
_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


def luminance(pixels: UInt8[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width"]:
    """Return the luminance, 0 to 255."""
    return np.asarray(pixels.astype(np.float32) @ _WEIGHTS)


def resize(values: Float[np.ndarray, "height width"], height: int, width: int) -> Float[np.ndarray, "_ _"]:
    """Return the values at another size, without aliases."""
    if values.shape == (height, width):
        return values
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def scaled(values: Float[np.ndarray, "height width"], side: float) -> Float[np.ndarray, "_ _"]:
    """Return the values with a longer side of so many pixels, rounded."""
    factor = side / max(values.shape)
    height, width = (max(1, round(factor * one)) for one in values.shape)
    return resize(values, height, width)


def local_mean(values: Float[np.ndarray, "height width"], radius: int = 3) -> Float[np.ndarray, "height width"]:
    """Return the mean of the square around each pixel."""
    return np.asarray(ndimage.uniform_filter(values, 2 * radius + 1, mode="nearest"))


def local_deviation(values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Return the standard deviation in the square around each pixel."""
    variance = local_mean(values**2) - local_mean(values) ** 2
    return np.asarray(np.sqrt(np.maximum(variance, 0)))
