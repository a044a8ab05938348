"""The interface of the frozen text encoders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Array, Bool, Float32


@dataclass(frozen=True)
class TextEmbedding:
    """Encoded texts, padded to the encoder's length; on the device if a network encoded them."""

    tokens: Float32[np.ndarray | Array, "batch length channels"]
    mask: Bool[np.ndarray | Array, "batch length"]


class TextEncoder(Protocol):
    """A frozen text encoder."""

    channels: int
    length: int

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """Return the embeddings of the texts' tokens; tokens beyond the encoder's length are cut off."""
        ...
