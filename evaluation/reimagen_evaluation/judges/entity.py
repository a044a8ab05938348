"""The judge of entities: is what an image shows the item's entity, among all that there are, and in its scene?"""

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
    """Scores by a classifier: 1 for right and 0 for wrong, where nothing else is said.

    - `entity`: the most probable entity is the item's; of two entities, each half of the image shows its own.
    - `entity_probability`: of the item's entity; of two, the smaller of both, each in its half.
    - `scene`: the most probable scene is the item's; NaN where the item names none.
    - `faithful`: the entity, and the scene where one is named.
    - `one_of_two`: of two entities, the halves show but one; NaN for items of one entity, as the next.
    - `blended`: of two entities, the halves do not show both, and the image as a whole is most probably one of the
      two and next the other.

    Which of two entities stands left is not asked: the assignment that is more probable counts.
    """

    def __init__(self, classifier: TrainedClassifier) -> None:
        self.classifier = classifier
        self._entities = {name: place for place, name in enumerate(classifier.config.entities)}
        self._scenes = {name: place for place, name in enumerate(classifier.config.scenes)}

    def scores(self, images: Sequence[Pixels], items: Sequence[Item]) -> Scores:
        """Scores of each image, by the names above.

        Raises:
            ValueError: an item has no entity or more than two, or one that the classifier does not know, or a scene.
        """
        wanted = [self._wanted(item) for item in items]
        scene = np.array([self._scene(item) for item in items], np.int64)
        side = self.classifier.side
        logits = self.classifier.logits(to_side(images, side))
        whole = np.asarray(jax.nn.softmax(logits.entity))
        rows = np.arange(len(items))
        subject = np.array([places[0] for places in wanted])
        table = {
            "entity": (whole.argmax(axis=1) == subject).astype(float),
            "entity_probability": whole[rows, subject].astype(float),
            "scene": np.where(scene < 0, np.nan, (np.asarray(logits.scene).argmax(axis=1) == scene).astype(float)),
            "one_of_two": np.full(len(items), np.nan),
            "blended": np.full(len(items), np.nan),
        }
        twos = [row for row, places in enumerate(wanted) if len(places) == 2]
        if twos:
            split = to_side([half for row in twos for half in halves(images[row])], side)
            of_halves = np.asarray(jax.nn.softmax(self.classifier.logits(split).entity))
            for number, row in enumerate(twos):
                pair = of_halves[2 * number : 2 * number + 2]
                for name, score in _two(pair, whole[row], wanted[row]).items():
                    table[name][row] = score
        table["faithful"] = table["entity"] * np.where(np.isnan(table["scene"]), 1.0, table["scene"])
        return table

    def _wanted(self, item: Item) -> tuple[int, ...]:
        if not 1 <= len(item.entities) <= 2:
            raise ValueError(f"entities: this judge tells one or two, {item.key} has {len(item.entities)}")
        for name in item.entities:
            if name not in self._entities:
                raise ValueError(f"entities: this judge does not know {name!r}, of {item.key}")
        return tuple(self._entities[name] for name in item.entities)

    def _scene(self, item: Item) -> int:
        if item.scene and item.scene not in self._scenes:
            raise ValueError(f"scene: this judge does not know {item.scene!r}, of {item.key}")
        return self._scenes[item.scene] if item.scene else -1


def _two(
    of_halves: Float[np.ndarray, "2 entities"], whole: Float[np.ndarray, " entities"], wanted: tuple[int, ...]
) -> dict[str, float]:
    """The scores of an image that was to show two entities."""
    left, right = max(
        (wanted, wanted[::-1]), key=lambda pair: float(np.log(of_halves[[0, 1], list(pair)] + 1e-12).sum())
    )
    shown = of_halves.argmax(axis=1)
    both = (shown[0] == left) and (shown[1] == right)
    return {
        "entity": float(both),
        "entity_probability": float(min(of_halves[0, left], of_halves[1, right])),
        "one_of_two": float(not both and bool(set(shown.tolist()) & set(wanted))),
        "blended": float(not both and set(np.argsort(whole)[-2:].tolist()) == set(wanted)),
    }
