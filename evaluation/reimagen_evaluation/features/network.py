"""The interface of feature networks: a batch of images in, one row of features per image out."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

Images = UInt8[np.ndarray, "batch height width 3"]
Features = Float[np.ndarray, "batch channels"]


class FeatureNetwork(Protocol):
    """A frozen network; it resizes images of any size to the size that it was trained on."""

    name: str
    """Name of the network in tables and reports."""
    side: int
    """Side in pixels of the network's square input."""
    channels: int
    """Number of features per image."""

    def features(self, images: Images) -> Features:
        """Return float32 features of RGB images of one size."""
        ...


def features_of(network: FeatureNetwork, images: Sequence[UInt8[np.ndarray, "height width 3"]]) -> Features:
    """Return the features of images of any sizes; images of one size are processed together."""
    features = np.zeros((len(images), network.channels), np.float32)
    for shape in sorted({image.shape for image in images}):
        rows = [row for row, image in enumerate(images) if image.shape == shape]
        features[rows] = network.features(np.stack([images[row] for row in rows]))
    return features
