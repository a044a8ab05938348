"""The judges that can be chosen on the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from reimagen_evaluation.features.clip import ClipFeatures
from reimagen_evaluation.features.dino import DinoFeatures
from reimagen_evaluation.judges.classifier import TrainedClassifier
from reimagen_evaluation.judges.entity import EntityJudge
from reimagen_evaluation.judges.judge import Judge
from reimagen_evaluation.judges.similarity import ClipJudge, ReferenceJudge

JUDGES: Final[dict[str, Callable[[Path], Judge]]] = {
    "entity": lambda folder: EntityJudge(TrainedClassifier.load(folder)),
    "clip": lambda folder: ClipJudge(ClipFeatures.load(folder)),
    "dino": lambda folder: ReferenceJudge(DinoFeatures.load(folder), "DINO"),
}
"""Loaders by name; each reads a folder of weights, a classifier's or one of transformers'."""


def load_judge(name: str, folder: Path) -> Judge:
    """Load a judge from stored weights.

    Raises:
        ValueError: the name is unknown, or the folder does not hold such weights.
    """
    if name not in JUDGES:
        raise ValueError(f"judge: must be one of {', '.join(JUDGES)}, got {name!r}")
    return JUDGES[name](folder)
