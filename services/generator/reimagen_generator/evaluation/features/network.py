"""What every feature network has in common: pictures in, a row of features for each out."""

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
