"""The judges that a command can name."""

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
"""By name, from a folder of weights: a classifier's, or one of transformers'."""


def load_judge(name: str, folder: Path) -> Judge:
    """A judge of stored weights.

    Raises:
        ValueError: the name is unknown, or the folder doesn't hold such weights.
    """
    if name not in JUDGES:
        raise ValueError(f"judge: {name!r} is unknown; known are {', '.join(JUDGES)}")
    return JUDGES[name](folder)
