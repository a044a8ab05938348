"""Trains the judge of what the demonstration draws, and measures how often it is right.

`python -m reimagen_demo.judge.train` does both. The judge knows all entities, held-out ones too, and all scenes; the
generator never sees the judge. It is measured on images composed as for training, from seeds of their own.
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
"""Compositions with a relation that are measured: of a named size, two entities, at night, in fog ..."""
CONFUSED = 40
"""Pairs told of, those most often taken for each other."""

_Shown = tuple[Composition, tuple[str, ...]]
"""A composition, and the style of each of its entities."""


@dataclass(frozen=True)
class Measured:
    """One image of a single entity, what it shows and what the judge saw."""

    composition: Composition
    style: str
    entity_seen: str
    scene_seen: str

    @property
    def right(self) -> tuple[bool, bool]:
        """The entity, and the scene."""
        shown = self.composition
        return self.entity_seen == shown.entities[0].name, self.scene_seen == shown.scene.phrase


def configuration() -> ClassifierConfig:
    """The classifier of all entities and all scenes."""
    return ClassifierConfig(
        entities=tuple(entity.name for entity in entities()), scenes=tuple(scene.phrase for scene in SCENES)
    )


def plain() -> list[_Shown]:
    """Each entity in each style, on a random scene."""
    rng = Random("the judge is measured")
    return [(Composition.plain(entity, rng.choice(SCENES)), (style.name,)) for entity in entities() for style in STYLES]


def related(count: int) -> list[_Shown]:
    """Compositions in which something more than an entity and a scene is named, of all entities equally often."""
    rng, found = Random("the judge is measured on relations"), list[_Shown]()
    while len(found) < count:
        composition = draw_composition(rng, "all", plain=False)
        if not composition.is_plain:
            found.append((composition, tuple(rng.choice(STYLES).name for _ in composition.entities)))
    return found


def compose(composer: Composer, shown: Sequence[_Shown], blur: float = 0.0) -> list[np.ndarray]:
    """The images, blurred by so many pixels; each a function of what it shows and its place."""
    images = []
    for place, (composition, styles) in enumerate(tqdm(shown, desc="measuring", unit="image")):
        image: Image.Image = composer.image(Random(f"measured/{place}"), composition, styles)
        images.append(np.asarray(image.filter(ImageFilter.GaussianBlur(blur)) if blur else image))
    return images


def measure(judge: TrainedClassifier, shown: Sequence[_Shown], images: Sequence[np.ndarray]) -> list[Measured]:
    """What the judge sees in images of single entities."""
    verdicts = judge.verdicts(list(images))
    return [
        Measured(composition, styles[0], verdict.entity, verdict.scene)
        for (composition, styles), verdict in zip(shown, verdicts, strict=True)
    ]


def measure_two(judge: TrainedClassifier, shown: Sequence[_Shown], images: Sequence[np.ndarray]) -> dict[str, float]:
    """The scores that true images of two entities get."""
    items = [
        Item(str(place), "", tuple(entity.name for entity in composition.entities), composition.scene.phrase, "two")
        for place, (composition, _) in enumerate(shown)
    ]
    scores = EntityJudge(judge).scores(images, items)
    return {"images": len(shown)} | {name: _share(column) for name, column in scores.items()}


def accuracy(measured: Iterable[Measured]) -> dict[str, float]:
    """Shares of images whose entity, scene, and both are told right."""
    right = np.array([m.right for m in measured], float)
    shares = {"entity": right[:, 0], "scene": right[:, 1], "faithful": right.prod(axis=1)}
    return {"images": len(right)} | {name: _share(column) for name, column in shares.items()}


def by_group(measured: Sequence[Measured], groups: Callable[[Measured], Iterable[str]]) -> dict[str, dict[str, float]]:
    """The accuracy of each group that images belong to."""
    members: dict[str, list[Measured]] = {}
    for m in measured:
        for group in groups(m):
            members.setdefault(group, []).append(m)
    return {group: accuracy(members[group]) for group in sorted(members)}


def confusions(measured: Sequence[Measured]) -> dict[str, list[tuple[str, str, int]]]:
    """What is most often taken for what: shown, seen, times."""
    pairs = {
        "confused entities": Counter(
            (m.composition.entities[0].name, m.entity_seen) for m in measured if not m.right[0]
        ),
        "confused scenes": Counter((m.composition.scene.phrase, m.scene_seen) for m in measured if not m.right[1]),
    }
    return {name: [(*pair, times) for pair, times in count.most_common(CONFUSED)] for name, count in pairs.items()}


def report(judge: TrainedClassifier, art: Art) -> dict[str, Any]:
    """What is told beside every figure of this judge: how often it is right on true images, and what it confuses."""
    composer = Composer(ArtImages(art), judge.side)
    shown = plain()
    measured = measure(judge, shown, compose(composer, shown))
    more = related(RELATED)
    images = compose(composer, more)
    single = [place for place, (composition, _) in enumerate(more) if len(composition.entities) == 1]
    two = [place for place, (composition, _) in enumerate(more) if len(composition.entities) == 2]
    named = measure(judge, [more[place] for place in single], [images[place] for place in single])
    blurred = {
        f"blurred by {radius} px": accuracy(measure(judge, shown[::5], compose(composer, shown[::5], radius)))
        for radius in (1.0, 2.0)
    }
    return {
        "accuracy": {"all": accuracy(measured)} | by_group(measured, _plain_groups) | blurred,
        "accuracy with relations": by_group(named, _relations),
        "two entities": measure_two(judge, [more[place] for place in two], [images[place] for place in two]),
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
    work: Annotated[Path, typer.Option(help="Folder of what a run goes on from.")] = Path("build/demo/judge"),
    steps: Annotated[int, typer.Option(min=10, help="How many, of 128 images each.")] = TRAINING.steps,
    art_folder: Annotated[Path, typer.Option(help="Where the icon art is, or will be installed.")] = Path("build/demo"),
    processes: Annotated[int, typer.Option(min=1, help="How many draw the icon art, where that is missing.")] = 2,
) -> None:
    """Train the demonstration's judge, measure it, and write its weights; stopped, it goes on where it was."""
    art = Art(art_folder)
    art.install()
    draw_all(art.sprite_file, entities(), processes)
    training, config = ClassifierTraining(steps=steps), configuration()
    images = JudgeImages(art, entities(), config.side, training.batch_size, SEED)
    began = time.process_time()
    judge = train_classifier(config, training, images.batch, work)
    minutes = round((time.process_time() - began) / 60, 1)
    facts = {"training": asdict(training) | {"core minutes of the last run": minutes}} | report(judge, art)
    judge.save(out, facts)
    for group, shares in (
        facts["accuracy"] | facts["accuracy with relations"] | {"two": facts["two entities"]}
    ).items():
        told = "  ".join(f"{name} {shares[name]:6.1%}" for name in ("entity", "scene", "faithful"))
        print(f"{group:32} {shares['images']:5}  {told}")


if __name__ == "__main__":
    typer.run(main)
