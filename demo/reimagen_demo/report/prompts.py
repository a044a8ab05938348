"""The prompts of `make results`; their seeds are words that training does not use as seeds."""

from dataclasses import dataclass, replace
from itertools import combinations
from random import Random
from typing import Final, get_args

from reimagen_demo.art.entities import Entity, entities
from reimagen_demo.data.compositions import Composition, Place, Size, Thing, Turn, draw_composition
from reimagen_demo.data.frequency import group
from reimagen_demo.data.prompts import prompt_of
from reimagen_demo.scenes.registry import SCENES
from reimagen_evaluation.benches.item import Item

GROUPS: Final = ("frequent", "infrequent", "held-out")
TWO: Final = "two entities"
GEOMETRY: Final = "stated geometry"
VARIETY: Final = "variety"
THREE: Final = "three entities"
UNSEEN: Final = "unseen words"
PALE_THINGS, THIN_THINGS, TINY_THINGS = FAINT = ("pale", "thin", "tiny")
CLOSE_UP: Final = (GEOMETRY, TWO, THREE, *FAINT)
"""Groups whose things are registered, and recognized in close-ups."""
MAIN, VARIED, LARGE = 200, 60, 40
"""Number of prompts of each group in the main table, in the other tables, and at 1024 pixels."""
SEVERAL, FAINT_COUNT = 60, 36
"""Number of prompts of two entities, and of three; number of each kind of faint things."""
OF_EACH_KIND: Final = 10
"""Number of prompts that state each combination of place, size, mirroring and turn."""
SEEDS, SEEDED = 8, 20
"""Number of images of each prompt whose variety is measured, and number of these prompts."""
FIRST_SCENES: Final = SCENES[:16]
"""The scenes that the first shipped cascade and its judge also know, so that later ones can be compared with them."""
ATTRIBUTES: Final = ("place", "size", "mirrored", "turned")
GEOMETRY_PROMPTS: Final = (2 ** len(ATTRIBUTES) - 1) * OF_EACH_KIND
# fmt: off
DISTINCT: Final = (
    "water buffalo", "cow", "ram", "mammoth", "rat", "dove", "flamingo", "spouting whale", "whale", "dolphin", "seal",
    "fish", "blowfish", "shark", "spiral seashell", "coral", "jellyfish", "shrimp", "oyster", "falafel", "doughnut",
    "speedboat", "party popper", "festival dolls", "ping pong paddle", "graduation cap", "baseball cap",
    "musical score", "saxophone", "accordion", "guitar", "trumpet", "maracas", "mailbox", "key", "old key", "clamp",
    "test tube", "petri dish", "DNA helix", "coffin", "paper map",
)
# fmt: on
"""Held-out entities that look different, in every style, when they are mirrored or turned, according to
`python -m reimagen_demo.report.geometry --distinct`; for the others this cannot be recognized."""

# fmt: off
PALE: Final = (
    "dove", "daisy", "ram", "dumpling", "martial arts uniform", "spiral seashell", "alembic", "saxophone", "cow face",
    "panda", "oyster", "ringed planet", "petri dish", "trumpet",
)
# fmt: on
"""Held-out entities whose mean lightness is at least 160 of 255 in every style, according to
`python -m reimagen_demo.report.faint`."""
# fmt: off
THIN: Final = (
    "DNA helix", "telescope", "old key", "flute", "clamp", "trumpet", "microscope", "saxophone", "coral", "shrimp",
    "maracas",
)
# fmt: on
"""Held-out entities that are nowhere thicker than 0.39 of their longest edge, in any style, according to the same
command."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, and the composition of a true image of it."""

    item: Item
    composition: Composition


def prompts() -> list[Prompt]:
    """Return all prompts."""
    prompt_list = []
    for name in GROUPS:
        rng = Random(f"results/{name}")
        pool = [entity for entity in entities() if group(entity) == name]
        rng.shuffle(pool)
        for number in range(MAIN):
            composition = Composition.plain(pool[number % len(pool)], rng.choice(SCENES))
            prompt_list.append(_prompt(rng, f"{name}.{number:03d}", composition, name))
    return (
        prompt_list
        + several_prompts(TWO, 2)
        + several_prompts(THREE, 3)
        + unseen_prompts()
        + faint_prompts()
        + geometry_prompts()
        + variety_prompts()
    )


def several_prompts(name: str, number: int) -> list[Prompt]:
    """Return prompts of several different held-out things, without a time of day or weather."""
    rng, prompt_list = Random(f"results/{name}"), list[Prompt]()
    while len(prompt_list) < SEVERAL:
        composition = draw_composition(rng, "held-out", plain=False)
        one_each = all(thing.count == 1 for thing in composition.things)
        if len(composition.things) == number and one_each and not (composition.time or composition.weather):
            prompt_list.append(_prompt(rng, f"{name.split()[0]}.{len(prompt_list):03d}", composition, name))
    return prompt_list


def unseen_prompts() -> list[Prompt]:
    """Return prompts of held-out things that name their scenes by words that training never uses."""
    rng = Random(f"results/{UNSEEN}")
    pool = [entity for entity in entities() if group(entity) == "held-out"]
    compositions = [Composition.plain(rng.choice(pool), SCENES[number % len(SCENES)]) for number in range(VARIED)]
    rng.shuffle(compositions)
    return [
        _prompt(rng, f"unseen.{number:03d}", composition, UNSEEN, unseen=True)
        for number, composition in enumerate(compositions)
    ]


def faint_prompts() -> list[Prompt]:
    """Return prompts of pale and of thin things, and of things that are stated to be tiny; all are held out."""
    known = {entity.name: entity for entity in entities()}
    pools = {PALE_THINGS: PALE, THIN_THINGS: THIN, TINY_THINGS: DISTINCT}
    prompt_list = []
    for name, names in pools.items():
        rng = Random(f"results/{name}")
        shuffled = rng.sample(names, len(names))
        for number in range(FAINT_COUNT):
            thing = Thing(known[shuffled[number % len(names)]], size="tiny" if name == TINY_THINGS else None)
            composition = Composition((thing,), rng.choice(FIRST_SCENES))
            prompt_list.append(_prompt(rng, f"{name}.{number:03d}", composition, name))
    return prompt_list


def geometry_prompts() -> list[Prompt]:
    """Return prompts that state geometry which contradicts a copy of the reference in its own place."""
    rng, prompt_list = Random(f"results/{GEOMETRY}"), list[Prompt]()
    known = {entity.name: entity for entity in entities()}
    pool = [known[name] for name in DISTINCT]
    rng.shuffle(pool)
    kinds = [kind for count in range(1, len(ATTRIBUTES) + 1) for kind in combinations(ATTRIBUTES, count)]
    # The kinds alternate, so that the first prompts already contain all of them.
    for _ in range(OF_EACH_KIND):
        for kind in kinds:
            thing = _thing(rng, pool[len(prompt_list) % len(pool)], kind)
            prompt_list.append(
                _prompt(
                    rng, f"geometry.{len(prompt_list):03d}", Composition((thing,), rng.choice(FIRST_SCENES)), GEOMETRY
                )
            )
    return prompt_list


def variety_prompts() -> list[Prompt]:
    """Return prompts that leave the layout open, each as often as it is drawn, with a different key each time."""
    rng, prompt_list = Random(f"results/{VARIETY}"), list[Prompt]()
    pool = [entity for entity in entities() if group(entity) == "held-out"]
    for number, entity in enumerate(rng.sample(pool, SEEDED)):
        first = _prompt(rng, f"variety.{number:03d}", Composition.plain(entity, rng.choice(FIRST_SCENES)), VARIETY)
        for seed in range(SEEDS):
            prompt_list.append(Prompt(replace(first.item, key=f"{first.item.key}.{seed}"), first.composition))
    return prompt_list


def _thing(rng: Random, entity: Entity, kind: tuple[str, ...]) -> Thing:
    """Return a thing with random values of the stated attributes that contradict a copy in place."""
    while True:
        size: Size | None = rng.choice(get_args(Size)) if "size" in kind else None
        place: Place | None = rng.choice(get_args(Place)) if "place" in kind else None
        turned: Turn | None = rng.choice(get_args(Turn)) if "turned" in kind else None
        thing = Thing(entity, size=size, place=place, mirrored="mirrored" in kind, turned=turned)
        large = size in ("large", "huge")
        # A large thing fills the image whatever its place; a huge one does not fit when it is tilted.
        fits = not (large and place) and not (size == "huge" and turned in ("left", "right"))
        contradicted = thing.mirrored or turned or (size and not large) or place not in (None, "center")
        if fits and contradicted:
            return thing


def _prompt(rng: Random, key: str, composition: Composition, name: str, *, unseen: bool = False) -> Prompt:
    shown: tuple[Entity, ...] = composition.entities
    names = tuple(entity.name for entity in shown)
    prompt = prompt_of(rng, composition, unseen=unseen)
    return Prompt(Item(key, prompt, names, composition.scene.phrase, name), composition)
