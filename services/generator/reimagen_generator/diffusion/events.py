"""What drawing reports, the same from the stage to the API."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True)
class StepEvent:
    """One step of one stage is done for a batch of images."""

    size: int
    """Side of the stage's images in pixels."""
    step: int
    """From 1."""
    steps: int
    evaluations: int
    """How often the step evaluated the network for each image."""
    stage: int = 0
    """Index of the stage in the cascade."""
    index: int = 0
    """Index of the batch's first image in the request."""
    preview: UInt8[np.ndarray, "size size 3"] | None = None
    """The batch's first image as the stage now predicts it, where a preview was due."""


@dataclass(frozen=True)
class ImagesEvent:
    """A batch of images is finished."""

    images: UInt8[np.ndarray, "batch size size 3"]
    index: int = 0
    """Index of the batch's first image in the request."""
