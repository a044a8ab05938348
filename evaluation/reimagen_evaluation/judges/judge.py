"""What every judge has in common: images and what they were to show, to named scores."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from reimagen_evaluation.benches.item import Item

Pixels = UInt8[np.ndarray, "height width 3"]
Scores = Mapping[str, Float[np.ndarray, " images"]]
"""By its name, each image's score; NaN where an item has nothing that the score could be measured on."""


class Judge(Protocol):
    """Scores images, each against the item that it was drawn of.

    Names end up as columns of tables: "entity", "scene", "CLIP-T". More is better, whatever the name.
    """

    def scores(self, images: Sequence[Pixels], items: Sequence[Item]) -> Scores:
        """Scores of each image; the same names whatever the images are.

        Args:
            images: RGB, of any size, not necessarily the same.
            items: what each of them was to show, as many as there are images.

        Raises:
            ValueError: an item asks for what this judge cannot tell, such as an entity that it does not know.
        """
        ...
