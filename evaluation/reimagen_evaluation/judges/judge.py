"""The interface of judges: images and their items in, named scores out."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from reimagen_evaluation.benches.item import Item

Pixels = UInt8[np.ndarray, "height width 3"]
Scores = Mapping[str, Float[np.ndarray, " images"]]
"""Scores of each image, by the score's name; NaN if the score is not defined for an item."""


class Judge(Protocol):
    """A scorer of images, each against the item that it was drawn for.

    The scores' names become columns of tables: "entity", "scene", "CLIP-T". Higher is better for every score.
    """

    def scores(self, images: Sequence[Pixels], items: Sequence[Item]) -> Scores:
        """Return the scores of each image; the names do not depend on the images.

        Args:
            images: RGB images of any sizes.
            items: the item of each image.

        Raises:
            ValueError: the judge cannot score an item, for example because it does not know the entity.
        """
        ...
