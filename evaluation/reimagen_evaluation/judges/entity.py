"""The judge of entities: whether an image shows the item's entity, among all entities, in the item's scene."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float

from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.judges.classifier import TrainedClassifier
from reimagen_evaluation.judges.judge import Pixels, Scores
from reimagen_evaluation.judges.squares import halves, to_side

_Probabilities = Float[np.ndarray, "images entities"]


class EntityJudge:
    """A judge that scores with a classifier: 1 for right and 0 for wrong, unless stated otherwise.

    - `entity`: whether the most probable entity is the item's; for two entities, whether each half of the image shows
      a different one of them.
    - `entity_probability`: probability of the item's entity; for two, the smaller one of both, each in its half.
    - Both are NaN for items of more than two entities, which halves of an image cannot separate; `faithful` too.
    - `scene`: whether the most probable scene is the item's; NaN if the item names none.
    - `faithful`: whether the entity is right, and the scene if the item names one.
    - `one_of_two`: for two entities, whether the halves show only one of them; NaN for items of one entity, like the
      next score.
    - `blended`: for two entities, whether the halves do not show both, and the two most probable entities of the whole
      image are the item's.

    The order of two entities is free: the more probable assignment to the halves counts.
    """

    def __init__(self, classifier: TrainedClassifier) -> None:
        self.classifier = classifier
        self._entities = {name: index for index, name in enumerate(classifier.config.entities)}
        self._scenes = {name: index for index, name in enumerate(classifier.config.scenes)}

    def scores(self, images: Sequence[Pixels], items: Sequence[Item]) -> Scores:
        """Return the scores of each image, by the names above.

        Raises:
            ValueError: an item has no entity, or an entity or a scene that the classifier lacks.
        """
        targets = [self._target(item) for item in items]
        scene = np.array([self._scene(item) for item in items], np.int64)
        side = self.classifier.side
        logits = self.classifier.logits(to_side(images, side))
        whole = np.asarray(jax.nn.softmax(logits.entity))
        rows = np.arange(len(items))
        subject = np.array([entities[0] for entities in targets])
        table = {
            "entity": (whole.argmax(axis=1) == subject).astype(float),
            "entity_probability": whole[rows, subject].astype(float),
            "scene": np.where(scene < 0, np.nan, (np.asarray(logits.scene).argmax(axis=1) == scene).astype(float)),
            "one_of_two": np.full(len(items), np.nan),
            "blended": np.full(len(items), np.nan),
        }
        twos = [row for row, entities in enumerate(targets) if len(entities) == 2]
        if twos:
            split = to_side([half for row in twos for half in halves(images[row])], side)
            of_halves = np.asarray(jax.nn.softmax(self.classifier.logits(split).entity))
            for number, row in enumerate(twos):
                pair = of_halves[2 * number : 2 * number + 2]
                for name, score in _two(pair, whole[row], targets[row]).items():
                    table[name][row] = score
        for row, entities in enumerate(targets):
            if len(entities) > 2:
                table["entity"][row] = table["entity_probability"][row] = np.nan
        table["faithful"] = table["entity"] * np.where(np.isnan(table["scene"]), 1.0, table["scene"])
        return table

    def _target(self, item: Item) -> tuple[int, ...]:
        if not item.entities:
            raise ValueError(f"entities: item {item.key} must have at least one")
        for name in item.entities:
            if name not in self._entities:
                raise ValueError(f"entities: {name!r} of item {item.key} is not an entity of this judge")
        return tuple(self._entities[name] for name in item.entities)

    def _scene(self, item: Item) -> int:
        if item.scene and item.scene not in self._scenes:
            raise ValueError(f"scene: {item.scene!r} of item {item.key} is not a scene of this judge")
        return self._scenes[item.scene] if item.scene else -1


def _two(
    of_halves: Float[np.ndarray, "2 entities"], whole: Float[np.ndarray, " entities"], target: tuple[int, ...]
) -> dict[str, float]:
    """Return the scores of an image whose item has two entities."""
    left, right = max(
        (target, target[::-1]), key=lambda pair: float(np.log(of_halves[[0, 1], list(pair)] + 1e-12).sum())
    )
    shown = of_halves.argmax(axis=1)
    both = (shown[0] == left) and (shown[1] == right)
    return {
        "entity": float(both),
        "entity_probability": float(min(of_halves[0, left], of_halves[1, right])),
        "one_of_two": float(not both and bool(set(shown.tolist()) & set(target))),
        "blended": float(not both and set(np.argsort(whole)[-2:].tolist()) == set(target)),
    }
