"""What every feature network has in common: images in, a row of features for each out."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

Images = UInt8[np.ndarray, "batch height width 3"]
Features = Float[np.ndarray, "batch channels"]


class FeatureNetwork(Protocol):
    """A frozen network; it brings images of any size to its own, as it was trained to see them."""

    name: str
    """As tables and reports call it."""
    side: int
    """Of the square that it looks at, in pixels."""
    channels: int
    """How many features an image has."""

    def features(self, images: Images) -> Features:
        """Float32 features of RGB images of one size."""
        ...


def features_of(network: FeatureNetwork, images: Sequence[UInt8[np.ndarray, "height width 3"]]) -> Features:
    """Features of images of any sizes; those of one size are looked at together."""
    features = np.zeros((len(images), network.channels), np.float32)
    for shape in sorted({image.shape for image in images}):
        rows = [row for row, image in enumerate(images) if image.shape == shape]
        features[rows] = network.features(np.stack([images[row] for row in rows]))
    return features
