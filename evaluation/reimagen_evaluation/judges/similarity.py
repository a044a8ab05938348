"""CLIP-T, CLIP-I and DINO: cosines between the features of an image, its prompt and its references (DreamBooth's).

An image's CLIP-I and DINO are the means over its references (arXiv 2208.12242, section 4.2). The mean over all
images of a benchmark is then the mean over all pairs, as long as each item has as many images as the others.
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

_REMEMBERED = 4_096


class ReferenceJudge:
    """How like its references an image is, in a network's features; NaN for an item that has none."""

    def __init__(self, network: FeatureNetwork, name: str) -> None:
        """Takes the network.

        Args:
            network: of the features.
            name: of the score: "DINO".
        """
        self.network = network
        self._name = name
        # References come again with every image of their item.
        self._reference = lru_cache(_REMEMBERED)(self._read)

    def scores(self, pictures: Sequence[Pixels], items: Sequence[Item]) -> Scores:
        """The mean cosine of each image with its item's references, by the judge's name.

        Raises:
            InvalidArgument: a reference is no image that can be read.
        """
        return {self._name: self.of_features(features_of(self.network, pictures), items)}

    def of_features(self, features: Features, items: Sequence[Item]) -> Float[np.ndarray, " images"]:
        """The same, of images whose features are known."""
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
    """CLIP-T, of images and prompts, and CLIP-I, of images and references; either network looks once."""

    def __init__(self, network: ClipFeatures) -> None:
        self.network = network
        self._references = ReferenceJudge(network, "CLIP-I")
        self._prompt = lru_cache(_REMEMBERED)(lambda prompt: _unit(network.text_features([prompt]))[0])

    def scores(self, pictures: Sequence[Pixels], items: Sequence[Item]) -> Scores:
        """Both cosines of each image; CLIP-I is NaN for an item without references.

        Raises:
            InvalidArgument: a reference is no image that can be read.
        """
        features = features_of(self.network, pictures)
        prompts = np.stack([self._prompt(item.prompt) for item in items])
        return {
            "CLIP-T": (_unit(features) * prompts).sum(axis=1).astype(float),
            "CLIP-I": self._references.of_features(features, items),
        }


def _unit(features: Features) -> Features:
    unit: Features = features / np.linalg.norm(features, axis=-1, keepdims=True)
    return unit
