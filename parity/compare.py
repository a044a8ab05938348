"""The difference between two outputs."""

import numpy as np
from jaxtyping import Float


def relative_error(ours: Float[np.ndarray, "*shape"], theirs: Float[np.ndarray, "*shape"]) -> float:
    """Return the largest difference, relative to the largest value of the reference.

    Raises:
        ValueError: the shapes differ.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes differ: {ours.shape} and {theirs.shape}")
    return float(np.abs(ours.astype(np.float64) - theirs).max() / np.abs(theirs).max())
