"""CLIP-T, CLIP-I and DINO: cosines between the features of an image, its prompt and its references (DreamBooth's).

CLIP-I and DINO of an image are means over its references (arXiv 2208.12242, section 4.2). The mean over all images of a
benchmark equals the mean over all pairs if every item has the same number of images.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.features.clip import ClipFeatures
from reimagen_evaluation.features.network import FeatureNetwork, Features, features_of
from reimagen_evaluation.judges.judge import Pixels, Scores
from reimagen_generator.diffusion.references import decode

_CACHED = 4_096


class ReferenceJudge:
    """A judge of the similarity of images to their references, in a network's features; NaN without references."""

    def __init__(self, network: FeatureNetwork, name: str) -> None:
        """Set up the judge.

        Args:
            network: network that computes the features.
            name: name of the score, such as "DINO".
        """
        self.network = network
        self._name = name
        # Every image of an item uses the same references.
        self._reference = lru_cache(_CACHED)(self._read)

    def scores(self, images: Sequence[Pixels], items: Sequence[Item]) -> Scores:
        """Return the mean cosine of each image with its item's references, by the judge's name.

        Raises:
            InvalidArgument: a reference is not a readable image.
        """
        return {self._name: self.of_features(features_of(self.network, images), items)}

    def of_features(self, features: Features, items: Sequence[Item]) -> Float[np.ndarray, " images"]:
        """Return the same cosines for images whose features are already computed."""
        unit = _unit(features)
        cosines = [
            np.mean([self._reference(reference.path) @ row for reference in item.references])
            if item.references
            else np.nan
            for row, item in zip(unit, items, strict=True)
        ]
        return np.array(cosines, float)

    def _read(self, path: Path) -> Float[np.ndarray, " channels"]:
        image = decode(path.read_bytes(), field=f"reference {path.name}")
        [features] = _unit(self.network.features(image[None]))
        return np.asarray(features)


class ClipJudge:
    """CLIP-T of images and prompts, and CLIP-I of images and references; the images' features are computed once."""

    def __init__(self, network: ClipFeatures) -> None:
        self.network = network
        self._references = ReferenceJudge(network, "CLIP-I")
        self._prompt = lru_cache(_CACHED)(lambda prompt: _unit(network.text_features([prompt]))[0])

    def scores(self, images: Sequence[Pixels], items: Sequence[Item]) -> Scores:
        """Return both cosines of each image; CLIP-I is NaN for an item without references.

        Raises:
            InvalidArgument: a reference is not a readable image.
        """
        features = features_of(self.network, images)
        prompts = np.stack([self._prompt(item.prompt) for item in items])
        return {
            "CLIP-T": (_unit(features) * prompts).sum(axis=1).astype(float),
            "CLIP-I": self._references.of_features(features, items),
        }


def _unit(features: Features) -> Features:
    unit: Features = features / np.linalg.norm(features, axis=-1, keepdims=True)
    return unit
