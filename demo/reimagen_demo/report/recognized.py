"""Recognition of the things in an image, one by one: registration finds each, and the judge classifies a close-up.

A close-up shows a thing upright and large, so that the judge recognizes it although it is tiny, mirrored or turned in
the image. What it is, is decided among all entities from the close-up's pixels alone.

`python -m reimagen_demo.report.recognized` measures true images, which a perfect generator would draw.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from random import Random
from typing import Annotated, Final

import numpy as np
import typer
from tqdm import tqdm

from reimagen_demo.art.icons import Art
from reimagen_demo.art.images import ArtImages
from reimagen_demo.art.pairs import STYLE_NAMES
from reimagen_demo.data.composer import Composer
from reimagen_demo.data.compositions import Composition
from reimagen_demo.judge.train import SHIPPED
from reimagen_demo.report.geometry import CutOuts, is_there, pose_scores
from reimagen_demo.report.prompts import ATTRIBUTES, CLOSE_UP, GEOMETRY, Prompt, prompts
from reimagen_evaluation import scoring
from reimagen_evaluation.judges.classifier import TrainedClassifier
from reimagen_evaluation.judges.judge import Pixels
from reimagen_evaluation.registration import Cutout, Pose, Registration, close_up, register
from reimagen_evaluation.report import statistics
from reimagen_evaluation.report.tables import NOTHING, format_estimate
from reimagen_evaluation.sweep import Sweep

APART: Final = 0.5
"""Least distance between the centers of two things, in sizes of the smaller one. Two things in one are nearer."""
_POSE_SCORES: Final = ("obeyed", "copied in place", *ATTRIBUTES)

Values = Mapping[str, np.ndarray]


class CloseUpJudge:
    """A scorer of the things of an image.

    - `close-up entity`: whether every thing is recognized in its close-up, and no two are at the same position.
    - `close-up faithful`: whether also the scene of the whole image is right.
    - `some there`: for several things, whether some are recognized but not all; NaN for one.
    - `arranged`: for several things, whether all are recognized and their positions are those that the prompt states;
      NaN if it states none that can be measured.
    - `match`: the least correlation with which a thing is found.
    - `obeyed` and the other scores of `geometry.scores_of`, for prompts that state geometry; NaN for others.
    """

    def __init__(self, classifier: TrainedClassifier) -> None:
        """Take the judge's classifier."""
        self._classifier = classifier

    def scores(self, prompt: Prompt, cutouts: Sequence[Sequence[Cutout]], image: Pixels) -> dict[str, float]:
        """Return the scores of an image, by the names above.

        Args:
            prompt: the image's prompt.
            cutouts: for each thing of the prompt, the drawings that may be in the image.
            image: square RGB image of any side.
        """
        things, states_geometry = prompt.composition.things, prompt.item.group == GEOMETRY
        found = [
            register(drawings, image, upright=not (states_geometry or thing.turned))
            for thing, drawings in zip(things, cutouts, strict=True)
        ]
        verdicts = self._classifier.verdicts([image, *self._close_ups(found, image)])
        names = iter(verdict.entity for verdict in verdicts[1:])
        seen = [one is not None and next(names) == thing.entity.name for one, thing in zip(found, things, strict=True)]
        poses = [one.pose for one in found if one is not None]
        there = all(seen) and are_apart(poses)
        states_order = len(things) > 1 and prompt.composition.relation not in ("behind", "in front of")
        arranged = states_order and there and is_arranged(prompt.composition, poses)
        geometry = pose_scores(things[0], found[0]) if states_geometry else {}
        return {
            "close-up entity": float(there),
            "close-up faithful": float(there and verdicts[0].scene == prompt.item.scene),
            "some there": float(any(seen) and not there) if len(things) > 1 else math.nan,
            "arranged": float(arranged) if states_order else math.nan,
            "match": min(0.0 if one is None else one.score for one in found),
        } | {name: geometry.get(name, math.nan) for name in _POSE_SCORES}

    def _close_ups(self, found: Sequence[Registration | None], image: Pixels) -> list[Pixels]:
        return [close_up(image, one.pose, self._classifier.side) for one in found if one is not None]


def are_apart(poses: Sequence[Pose]) -> bool:
    """Return whether no two poses are at the same position."""
    return all(
        math.hypot(one.x - other.x, one.y - other.y) >= APART * min(one.size, other.size)
        for one, other in combinations(poses, 2)
    )


def is_arranged(composition: Composition, poses: Sequence[Pose]) -> bool:
    """Return whether several things are where a composition states: at their places, in their relation, or in a row.

    Args:
        composition: a composition of several things that states no depth.
        poses: the pose of each thing.
    """
    first, second = poses[0], poses[1]
    if composition.things[0].place:
        return all(
            thing.place is None or is_there(thing.place, pose)
            for thing, pose in zip(composition.things, poses, strict=True)
        )
    match composition.relation:
        case "above":
            return first.y < second.y
        case "below":
            return first.y > second.y
        case "right of":
            return first.x > second.x
        case _:
            return all(left.x < right.x for left, right in pairwise(poses))


def score_close_ups(
    out: Path, drawn: Sweep, prompts: Sequence[Prompt], art: Art, classifier: TrainedClassifier
) -> None:
    """Score all images of the groups whose things are registered, against the drawings of their references."""
    judge, cutouts = CloseUpJudge(classifier), CutOuts(art)
    known = {prompt.item.key: prompt for prompt in prompts}
    scoring.score_by_references(
        out,
        drawn,
        [prompt.item for prompt in prompts],
        "close-ups",
        lambda image, item, references: judge.scores(
            known[item.key], [cutouts.among(e, references) for e in known[item.key].composition.entities], image
        ),
        groups=CLOSE_UP,
    )


def true_close_ups(prompts: Sequence[Prompt], art: Art, side: int, classifier: TrainedClassifier) -> Values:
    """Return the scores of a true image of each prompt."""
    composer, cutouts, judge = Composer(ArtImages(art), side), CutOuts(art), CloseUpJudge(classifier)
    rows = []
    for prompt in tqdm(prompts, desc="true close-ups", unit="image"):
        rng = Random(f"results/true/{prompt.item.key}")
        styles = [rng.choice(STYLE_NAMES) for _ in prompt.composition.things]
        image = np.asarray(composer.image(rng, prompt.composition, styles))
        drawings = [
            [cutouts.of(entity, style)] for entity, style in zip(prompt.composition.entities, styles, strict=True)
        ]
        rows.append(judge.scores(prompt, drawings, image))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def main(
    only: Annotated[list[str] | None, typer.Option(help="Only group of prompts; repeatable.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Number of true images of each group; None for all.")] = None,
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of the images, in pixels.")] = 256,
    judge: Annotated[Path, typer.Option(help="Folder of the judge.")] = SHIPPED,
    art_folder: Annotated[Path, typer.Option(help="Folder of the icon art, which is installed if missing.")] = Path(
        "build/demo"
    ),
) -> None:
    """Print the scores of true images of the prompts whose things are registered."""
    if unknown := set(only or ()) - set(CLOSE_UP):
        raise typer.BadParameter(f"only: {min(unknown)!r} is not a group; groups are {', '.join(CLOSE_UP)}")
    art, classifier, known = Art(art_folder), TrainedClassifier.load(judge), prompts()
    art.install()
    names = ("obeyed", "close-up entity", "close-up faithful", "arranged")
    print(f"| group | n | {' | '.join(names)} |")
    print("|---" * (2 + len(names)) + "|")
    for group in only or CLOSE_UP:
        chosen = [prompt for prompt in known if prompt.item.group == group][:count]
        values = true_close_ups(chosen, art, size, classifier)
        cells = [format_estimate(statistics.mean(values[name]), nothing=NOTHING) for name in names]
        print(f"| {group} | {len(chosen)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
