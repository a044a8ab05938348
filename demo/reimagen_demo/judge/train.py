"""Train the judge of the demonstration's images, and measure how often it is right.

`python -m reimagen_demo.judge.train` does both. The judge knows all entities, including held-out ones, and all scenes;
the generator is never trained with the judge. The judge is measured on images that are composed as for training, from
other seeds.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image, ImageFilter
from tqdm import tqdm

from reimagen_demo.art.entities import entities
from reimagen_demo.art.icons import STYLES, Art, draw_all
from reimagen_demo.art.images import ArtImages
from reimagen_demo.data.composer import Composer
from reimagen_demo.data.compositions import Composition, draw_composition
from reimagen_demo.judge.images import JudgeImages
from reimagen_demo.scenes.registry import SCENES
from reimagen_evaluation.benches.item import Item
from reimagen_evaluation.judges.classifier import ClassifierConfig, TrainedClassifier
from reimagen_evaluation.judges.classifier_training import ClassifierTraining, train_classifier
from reimagen_evaluation.judges.entity import EntityJudge

SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "judge"
SEED = 4
TRAINING = ClassifierTraining()
RELATED = 1_500
"""Number of measured compositions that state more than an entity and a scene: a size, a second entity, night, fog."""
CONFUSED = 40
"""Number of confused pairs in the report, the most frequent ones."""

_Shown = tuple[Composition, tuple[str, ...]]
"""A composition, and the style of each of its entities."""


@dataclass(frozen=True)
class Measured:
    """An image of a single entity: what it shows, and what the judge classified."""

    composition: Composition
    style: str
    entity_seen: str
    scene_seen: str

    @property
    def right(self) -> tuple[bool, bool]:
        """Whether the entity, and whether the scene is right."""
        shown = self.composition
        return self.entity_seen == shown.entities[0].name, self.scene_seen == shown.scene.phrase


def configuration() -> ClassifierConfig:
    """Return the configuration of the classifier of all entities and all scenes."""
    return ClassifierConfig(
        entities=tuple(entity.name for entity in entities()), scenes=tuple(scene.phrase for scene in SCENES)
    )


def plain() -> list[_Shown]:
    """Return each entity in each style, on a random scene."""
    rng = Random("the judge is measured")
    return [(Composition.plain(entity, rng.choice(SCENES)), (style.name,)) for entity in entities() for style in STYLES]


def related(count: int) -> list[_Shown]:
    """Return compositions that state more than an entity and a scene, with all entities equally often."""
    rng, found = Random("the judge is measured on relations"), list[_Shown]()
    while len(found) < count:
        composition = draw_composition(rng, "all", plain=False)
        if not composition.is_plain:
            found.append((composition, tuple(rng.choice(STYLES).name for _ in composition.entities)))
    return found


def compose(composer: Composer, shown: Sequence[_Shown], blur: float = 0.0) -> list[np.ndarray]:
    """Return the images, blurred by a radius in pixels; each depends only on its composition and its index."""
    images = []
    for index, (composition, styles) in enumerate(tqdm(shown, desc="measuring", unit="image")):
        image: Image.Image = composer.image(Random(f"measured/{index}"), composition, styles)
        images.append(np.asarray(image.filter(ImageFilter.GaussianBlur(blur)) if blur else image))
    return images


def measure(judge: TrainedClassifier, shown: Sequence[_Shown], images: Sequence[np.ndarray]) -> list[Measured]:
    """Return what the judge classifies in images of single entities."""
    verdicts = judge.verdicts(list(images))
    return [
        Measured(composition, styles[0], verdict.entity, verdict.scene)
        for (composition, styles), verdict in zip(shown, verdicts, strict=True)
    ]


def measure_two(judge: TrainedClassifier, shown: Sequence[_Shown], images: Sequence[np.ndarray]) -> dict[str, float]:
    """Return the scores of true images of two entities."""
    items = [
        Item(str(index), "", tuple(entity.name for entity in composition.entities), composition.scene.phrase, "two")
        for index, (composition, _) in enumerate(shown)
    ]
    scores = EntityJudge(judge).scores(images, items)
    return {"images": len(shown)} | {name: _share(column) for name, column in scores.items()}


def accuracy(measured: Iterable[Measured]) -> dict[str, float]:
    """Return the shares of images whose entity, scene, and both are right."""
    right = np.array([m.right for m in measured], float)
    shares = {"entity": right[:, 0], "scene": right[:, 1], "faithful": right.prod(axis=1)}
    return {"images": len(right)} | {name: _share(column) for name, column in shares.items()}


def by_group(measured: Sequence[Measured], groups: Callable[[Measured], Iterable[str]]) -> dict[str, dict[str, float]]:
    """Return the accuracy of each group that images belong to."""
    members: dict[str, list[Measured]] = {}
    for m in measured:
        for group in groups(m):
            members.setdefault(group, []).append(m)
    return {group: accuracy(members[group]) for group in sorted(members)}


def confusions(measured: Sequence[Measured]) -> dict[str, list[tuple[str, str, int]]]:
    """Return the most frequent confusions: what is shown, what is classified, and the number of times."""
    pairs = {
        "confused entities": Counter(
            (m.composition.entities[0].name, m.entity_seen) for m in measured if not m.right[0]
        ),
        "confused scenes": Counter((m.composition.scene.phrase, m.scene_seen) for m in measured if not m.right[1]),
    }
    return {name: [(*pair, times) for pair, times in count.most_common(CONFUSED)] for name, count in pairs.items()}


def report(judge: TrainedClassifier, art: Art) -> dict[str, Any]:
    """Return the judge's accuracy on true images and its confusions, which are published with its scores."""
    composer = Composer(ArtImages(art), judge.side)
    shown = plain()
    measured = measure(judge, shown, compose(composer, shown))
    more = related(RELATED)
    images = compose(composer, more)
    single = [index for index, (composition, _) in enumerate(more) if len(composition.entities) == 1]
    two = [index for index, (composition, _) in enumerate(more) if len(composition.entities) == 2]
    named = measure(judge, [more[index] for index in single], [images[index] for index in single])
    blurred = {
        f"blurred by {radius} px": accuracy(measure(judge, shown[::5], compose(composer, shown[::5], radius)))
        for radius in (1.0, 2.0)
    }
    return {
        "accuracy": {"all": accuracy(measured)} | by_group(measured, _plain_groups) | blurred,
        "accuracy with relations": by_group(named, _relations),
        "two entities": measure_two(judge, [more[index] for index in two], [images[index] for index in two]),
    } | confusions(measured)


def _plain_groups(measured: Measured) -> Iterable[str]:
    shown = measured.composition
    return f"split: {shown.entities[0].split}", f"style: {measured.style}", f"scene: {shown.scene.phrase}"


def _relations(measured: Measured) -> Iterable[str]:
    shown = measured.composition
    stated: dict[str, Any] = {name: getattr(shown.things[0], name) for name in ("size", "place", "turned")}
    stated |= {"time": shown.time, "weather": shown.weather}
    named = [f"{name}: {value}" for name, value in stated.items() if value]
    return [*named, *(f"{thing.count} of it" for thing in shown.things if thing.count > 1)]


def _share(column: np.ndarray) -> float:
    return round(float(np.mean(column)), 4)


def main(
    out: Annotated[Path, typer.Option(help="Folder for judge.safetensors and judge.json.")] = SHIPPED,
    work: Annotated[Path, typer.Option(help="Folder of the saved state, from which a run resumes.")] = Path(
        "build/demo/judge"
    ),
    steps: Annotated[int, typer.Option(min=10, help="Number of steps, each of 128 images.")] = TRAINING.steps,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak learning rate.")] = TRAINING.learning_rate,
    start_from: Annotated[
        Path | None, typer.Option(help="Folder of a judge whose weights the training starts from.")
    ] = None,
    art_folder: Annotated[Path, typer.Option(help="Folder of the icon art, which is installed if missing.")] = Path(
        "build/demo"
    ),
    processes: Annotated[int, typer.Option(min=1, help="Number of processes that draw missing icon art.")] = 2,
) -> None:
    """Train the demonstration's judge, measure it, and write its weights; a run that was stopped resumes."""
    art = Art(art_folder)
    art.install()
    draw_all(art.sprite_file, entities(), processes)
    training, config = ClassifierTraining(steps=steps, learning_rate=learning_rate), configuration()
    start = None if start_from is None else TrainedClassifier.load(start_from)
    # A judge that recognizes entities already needs no plain images to begin with.
    schedule = {} if start is None else {"plain_before": 0}
    images = JudgeImages(art, entities(), config.side, training.batch_size, SEED + (start is not None), **schedule)
    began = time.process_time()
    judge = train_classifier(config, training, images.batch, work, start)
    minutes = round((time.process_time() - began) / 60, 1)
    facts = {"training": asdict(training) | {"core minutes of the last run": minutes}} | report(judge, art)
    if start is not None:
        facts["training"]["started from"] = start.config.facts["training"]
    judge.save(out, facts)
    for group, shares in (
        facts["accuracy"] | facts["accuracy with relations"] | {"two": facts["two entities"]}
    ).items():
        figures = "  ".join(f"{name} {shares[name]:6.1%}" for name in ("entity", "scene", "faithful"))
        print(f"{group:32} {shares['images']:5}  {figures}")


if __name__ == "__main__":
    typer.run(main)
