"""Measure whether images show objects at the place, in the size, mirroring and turn that their prompts state.

The reference's drawing is registered to the image. `python -m reimagen_demo.report.geometry` tests the measure on true
images, whose placements are known, and prints how often it is right.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Annotated, Final

import numpy as np
import typer
from PIL import Image, ImageFilter

from reimagen_demo.art.entities import Entity, of_split
from reimagen_demo.art.icons import STYLES, Art
from reimagen_demo.art.images import ArtImages, PairImages
from reimagen_demo.art.pairs import PAIR_FILL
from reimagen_demo.data.composer import Composer
from reimagen_demo.data.compositions import Place, Size, Thing, Turn, draw_composition
from reimagen_demo.data.placing import Placement
from reimagen_demo.report.prompts import ATTRIBUTES, DISTINCT
from reimagen_evaluation.judges.judge import Pixels
from reimagen_evaluation.registration import Cutout, Pose, Registration, distinctness, register

CUTOUT_SIDE: Final = 192
"""Longest edge in pixels of the drawings that are registered."""
FOUND: Final = 0.5
"""Least correlation with which an object counts as found."""
OBEYED_SIZES: Final[Mapping[Size, tuple[float, float]]] = {
    "tiny": (0.14, 0.28),
    "small": (0.24, 0.42),
    "large": (0.58, 0.9),
    "huge": (0.78, 1.1),
}
"""Range of the longest edge of an object of that size: the composer's range, and a tenth more or less."""
ASIDE: Final = 0.1
"""Least distance from the middle of the center of an object on a side; greatest distance of one in the center."""
OBEYED_TURNS: Final[Mapping[Turn, tuple[float, float]]] = {
    "upside down": (155, 205),
    "left": (10, 55),
    "right": (-55, -10),
}
"""Range of the turn in degrees, counter-clockwise."""
NEAR, SIZE_RATIO, TURN = 0.08, 1.15, math.radians(12)
"""Greatest differences in place, size and turn of two poses that count as the same."""
OWN: Final = Pose(0.5, 0.5, PAIR_FILL)
"""Pose of an object in its reference."""
DISTINCTNESS: Final = 0.15
"""Least distinctness of an object whose mirroring and turn are measured."""


def obeyed(thing: Thing, pose: Pose) -> dict[str, bool]:
    """Return whether a pose obeys each attribute that is stated of a thing."""
    found = {}
    if thing.place:
        found["place"] = is_there(thing.place, pose)
    if thing.size:
        lowest, highest = OBEYED_SIZES[thing.size]
        found["size"] = lowest <= pose.size <= highest
    if thing.mirrored:
        found["mirrored"] = pose.mirrored
    if thing.turned:
        lowest, highest = OBEYED_TURNS[thing.turned]
        found["turned"] = (math.degrees(pose.angle) - lowest) % 360 <= highest - lowest
    return found


def is_there(place: Place, pose: Pose) -> bool:
    """Return whether a pose is at a stated place."""
    if place == "center":
        return abs(pose.x - 0.5) <= ASIDE and abs(pose.y - 0.5) <= ASIDE
    aside = {"left": 0.5 - pose.x, "right": pose.x - 0.5, "top": 0.5 - pose.y, "bottom": pose.y - 0.5}
    return all(aside[word] >= ASIDE for word in place.split())


def same(pose: Pose, other: Pose) -> dict[str, bool]:
    """Return whether two poses agree in each attribute."""
    return {
        "place": abs(pose.x - other.x) <= NEAR and abs(pose.y - other.y) <= NEAR,
        "size": abs(math.log(pose.size / other.size)) <= math.log(SIZE_RATIO),
        "mirrored": pose.mirrored == other.mirrored,
        "turned": pose.turned_from(other) <= TURN,
    }


def scores_of(thing: Thing, cutouts: Sequence[Cutout], image: Pixels) -> dict[str, float]:
    """Return the scores of an image of one thing; NaN for attributes that its prompt does not state."""
    return pose_scores(thing, register(cutouts, image))


def pose_scores(thing: Thing, found: Registration | None) -> dict[str, float]:
    """Return the scores of a thing that was registered in an image; see `scores_of`."""
    match = 0.0 if found is None else found.score
    pose = found.pose if found is not None and match >= FOUND else None
    right = {name: pose is not None and is_right for name, is_right in obeyed(thing, pose or OWN).items()}
    return {
        "obeyed": float(all(right.values())),
        "copied in place": float(pose is not None and all(same(pose, OWN).values())),
        "match": match,
    } | {name: float(right[name]) if name in right else math.nan for name in ATTRIBUTES}


class CutOuts:
    """The drawings of entities as cut-outs for registration."""

    def __init__(self, art: Art) -> None:
        """Take the icon art."""
        self._art = art
        self._images = PairImages(art)
        self._by_style = lru_cache(64)(self._all)

    def of(self, entity: Entity, style: str) -> Cutout:
        """Return the drawing in a style."""
        return self._by_style(entity)[style][1]

    def among(self, entity: Entity, references: Sequence[Path]) -> list[Cutout]:
        """Return the drawings that the references show, or all of the entity's if they show none of them."""
        shown = {path.name for path in references}
        drawings = self._by_style(entity).values()
        return [cutout for name, cutout in drawings if name in shown] or [cutout for _, cutout in drawings]

    def _all(self, entity: Entity) -> dict[str, tuple[str, Cutout]]:
        """Return the drawing in each style, with the name under which evaluations store the base's image."""
        return {
            style.name: (
                hashlib.sha256(self._images.file(entity, style).read_bytes()).hexdigest()[:16],
                Cutout(np.asarray(self._art.sprite(entity, style, CUTOUT_SIDE).convert("RGBA"))),
            )
            for style in STYLES
        }


def pose_of(placement: Placement) -> Pose:
    """Return a placement as a pose."""
    return Pose(placement.x, placement.y, placement.size, placement.mirrored, placement.angle)


def distinct(cutouts: CutOuts) -> list[str]:
    """Return the held-out entities whose mirroring and turn can be recognized from their pixels, in every style."""
    return [
        entity.name
        for entity in of_split("held-out")
        if all(distinctness(cutouts.of(entity, style.name)) >= DISTINCTNESS for style in STYLES)
    ]


@dataclass(frozen=True)
class TrueThing:
    """A true image of one thing, the thing's drawing, and its pose."""

    image: Image.Image
    cutout: Cutout
    pose: Pose


def true_things(composer: Composer, cutouts: CutOuts, pool: Sequence[Entity], count: int) -> Iterator[TrueThing]:
    """Yield true images of one thing each, with random size, place, turn, mirroring, scene and weather."""
    rng, names = Random("registration is measured"), set(pool)
    while count:
        composition = draw_composition(rng, "held-out", plain=False)
        thing, style = composition.things[0], rng.choice(STYLES).name
        if len(composition.things) > 1 or thing.count > 1 or thing.color or thing.entity not in names:
            continue
        composed = composer.compose(rng, composition, [style], [False])
        yield TrueThing(composed.image, cutouts.of(thing.entity, style), pose_of(composed.placements[0][0]))
        count -= 1


def blurred(image: Pixels) -> Pixels:
    """Return an image without its finest details, as small networks draw it."""
    radius = image.shape[0] / 128
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def noisy(image: Pixels) -> Pixels:
    """Return an image with added grain."""
    grain = np.random.default_rng(0).normal(0.0, 12.0, image.shape)
    noised: Pixels = np.clip(image + grain, 0, 255).astype(np.uint8)
    return noised


def as_it_is(image: Pixels) -> Pixels:
    """Return the image unchanged."""
    return image


def accuracy(things: Sequence[TrueThing], change: Callable[[Pixels], Pixels]) -> dict[str, float]:
    """Return how often registration is right in each attribute, and in all of them."""
    rows = []
    for thing in things:
        found = register([thing.cutout], change(np.asarray(thing.image)))
        right = dict.fromkeys(ATTRIBUTES, False) if found is None else same(found.pose, thing.pose)
        rows.append([right[name] for name in ATTRIBUTES] + [all(right.values())])
    return dict(zip((*ATTRIBUTES, "all"), np.mean(rows, axis=0).tolist(), strict=True))


def main(
    count: Annotated[int, typer.Option(min=1, help="Number of true images.")] = 100,
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of the images, in pixels.")] = 256,
    art_folder: Annotated[Path, typer.Option(help="Folder of the icon art, which is installed if missing.")] = Path(
        "build/demo"
    ),
    find_distinct: Annotated[
        bool, typer.Option("--distinct", help="Print only the held-out entities whose turn can be recognized.")
    ] = False,
) -> None:
    """Print how often registration finds the pose of a thing in true images."""
    art = Art(art_folder)
    art.install()
    cutouts = CutOuts(art)
    if find_distinct:
        print(*distinct(cutouts), sep="\n")
        return
    pool = [entity for entity in of_split("held-out") if entity.name in DISTINCT]
    things = list(true_things(Composer(ArtImages(art), size), cutouts, pool, count))
    print(f"| {count} images | {' | '.join((*ATTRIBUTES, 'all'))} |")
    print("|---" * (2 + len(ATTRIBUTES)) + "|")
    for name, change in (("as composed", as_it_is), ("blurred", blurred), ("noisy", noisy)):
        shares = accuracy(things, change).values()
        print(f"| {name} | {' | '.join(f'{share:.1%}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
