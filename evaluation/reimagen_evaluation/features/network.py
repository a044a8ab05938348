"""What every feature network has in common: pictures in, a row of features for each out."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

Pictures = UInt8[np.ndarray, "batch height width 3"]
Features = Float[np.ndarray, "batch channels"]


class FeatureNetwork(Protocol):
    """A frozen network; it brings pictures of any size to its own, as it was trained to see them."""

    name: str
    """As tables and reports call it."""
    side: int
    """Of the square that it looks at, in pixels."""
    channels: int
    """How many features a picture has."""

    def features(self, pictures: Pictures) -> Features:
        """Float32 features of RGB pictures of one size."""
        ...


def features_of(network: FeatureNetwork, pictures: Sequence[UInt8[np.ndarray, "height width 3"]]) -> Features:
    """Features of pictures of any sizes; those of one size are looked at together."""
    features = np.zeros((len(pictures), network.channels), np.float32)
    for shape in sorted({picture.shape for picture in pictures}):
        rows = [row for row, picture in enumerate(pictures) if picture.shape == shape]
        features[rows] = network.features(np.stack([pictures[row] for row in rows]))
    return features
