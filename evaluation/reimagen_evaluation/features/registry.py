"""The choice of the feature network by the contents of a folder or file."""

import json
from collections.abc import Callable
from pathlib import Path

from reimagen_evaluation.features.clip import ClipFeatures
from reimagen_evaluation.features.dino import DinoFeatures
from reimagen_evaluation.features.inception import InceptionFeatures
from reimagen_evaluation.features.network import FeatureNetwork
from reimagen_evaluation.judges.classifier import CONFIG_FILE, TrainedClassifier

_LOADERS: dict[str, Callable[[Path], FeatureNetwork]] = {
    "clip": ClipFeatures.load,
    "vit": DinoFeatures.load,
    "dinov2": DinoFeatures.load,
}


def load_features(path: Path) -> FeatureNetwork:
    """Load the network of a path: InceptionV3's safetensors file, or a folder of CLIP, DINO, DINOv2 or a judge.

    Raises:
        ValueError: the path is none of these, or cannot be read.
    """
    if (path / CONFIG_FILE).is_file():
        return TrainedClassifier.load(path)
    if path.suffix == ".safetensors":
        return InceptionFeatures.load(path)
    try:
        kind = json.loads((path / "config.json").read_text()).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(
            f"features: {path} must be a safetensors file, or a folder with a readable config.json: {error}"
        ) from error
    if kind not in _LOADERS:
        raise ValueError(f"features: {path} holds a model of type {kind!r}; supported are {', '.join(_LOADERS)}")
    return _LOADERS[kind](path)
