"""What a training image shows: things with their size, place, mirroring, turn and number, in a scene."""

from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Literal, Self, TypeVar, get_args

from reimagen_demo.art.colors import Color
from reimagen_demo.art.entities import Entity
from reimagen_demo.art.made_up import draw_thing, is_made_up
from reimagen_demo.data.frequency import Pool, draw_entity
from reimagen_demo.data.plurals import plural
from reimagen_demo.scenes.registry import SCENES, Scene, Time, Weather

_T = TypeVar("_T")

Size = Literal["tiny", "small", "large", "huge"]
Place = Literal["left", "right", "top", "bottom", "center", "top left", "top right", "bottom left", "bottom right"]
Turn = Literal["upside down", "left", "right"]
"""Turned by half a turn, or tilted to that side."""
Relation = Literal["left of", "right of", "above", "below", "behind", "in front of"]

PLAIN = 0.35
"""Share of compositions that state only one thing and a scene."""
NUMBER_OF_THINGS = {1: 70, 2: 22, 3: 8}
"""Relative frequencies of the number of different things in the other compositions."""
COUNTS = {1: 82, 2: 11, 3: 7}
"""Relative frequencies of the number of copies of a thing that is alone."""
STATED = {"size": 0.4, "place": 0.4, "turned": 0.25, "mirrored": 0.18, "color": 0.15}
"""Probability that each attribute is stated of a thing that is alone."""
STATED_OF_SEVERAL = {"size": 0.15, "turned": 0.07, "mirrored": 0.07, "color": 0.08}
"""Probability that each attribute is stated of each of several things."""
MADE_UP = 0.13
"""Share of made-up entities in training."""
_COLORED = {*get_args(Color), "rainbow", "golden", "blackbird", "blueberries"}
"""Words in names that state a color."""
SETTING = 0.2
"""Share of compositions that state the time of day or the weather, for scenes that have them."""
LAYOUTS_OF_TWO = {"order": 40, "relation": 38, "places": 22}
"""Relative frequencies of the layouts of two things: in order of mention, by a relation, or each at a stated place."""

OPPOSITE: dict[Place, Place] = {
    "left": "right",
    "right": "left",
    "top": "bottom",
    "bottom": "top",
    "top left": "bottom right",
    "top right": "bottom left",
    "bottom left": "top right",
    "bottom right": "top left",
}
"""Place of the second of two things whose places are both stated."""


@dataclass(frozen=True)
class Thing:
    """An entity in an image, and what is stated about it."""

    entity: Entity
    count: int = 1
    """Number of copies: 1 to 3."""
    size: Size | None = None
    place: Place | None = None
    mirrored: bool = False
    """Whether it is stated to be the mirror image of its references."""
    turned: Turn | None = None
    color: Color | None = None
    """Color that differs from its references."""


@dataclass(frozen=True)
class Composition:
    """What an image shows."""

    things: tuple[Thing, ...]
    """One to three things, from left to right unless `relation` or their places state otherwise."""
    scene: Scene
    relation: Relation | None = None
    """Position of the first of two things relative to the second."""
    time: Time | None = None
    weather: Weather | None = None

    @classmethod
    def plain(cls, entity: Entity, scene: Scene) -> Self:
        """Return a composition of one thing in a scene."""
        return cls((Thing(entity),), scene)

    @property
    def is_plain(self) -> bool:
        """Whether the composition is one thing in a scene, with nothing else stated."""
        return self == Composition.plain(self.entities[0], self.scene)

    @cached_property
    def entities(self) -> tuple[Entity, ...]:
        """The entities of its things."""
        return tuple(thing.entity for thing in self.things)


def draw_composition(rng: Random, pool: Pool, *, plain: bool) -> Composition:
    """Return a random composition of the pool's entities.

    Args:
        rng: decides everything.
        pool: the entities to draw from.
        plain: whether to show one thing in a scene and state nothing else.
    """
    entity = _entity(rng, pool, plain=plain)
    if plain or rng.random() < PLAIN:
        return Composition.plain(entity, rng.choice(SCENES))
    number = _weighted(rng, NUMBER_OF_THINGS)
    relation: Relation | None = None
    if number == 1:
        things = [_single(rng, entity)]
    else:
        things = [_one_of_several(rng, each) for each in _others(rng, pool, entity, number)]
    if number == 2:
        layout = _weighted(rng, LAYOUTS_OF_TWO)
        if layout == "relation":
            relation = rng.choice(get_args(Relation))
        elif layout == "places":
            place = rng.choice(tuple(OPPOSITE))
            things = [
                replace(each, size=None, place=where)
                for each, where in zip(things, (place, OPPOSITE[place]), strict=True)
            ]
        elif rng.random() < 0.2 and plural(entity):
            things[0] = Thing(entity, 2)
    scene = rng.choice(SCENES)
    setting = rng.choice(("time", "weather")) if rng.random() < 2 * SETTING else None
    return Composition(
        tuple(things),
        scene,
        relation,
        time=rng.choice(scene.times) if setting == "time" and scene.times else None,
        weather=rng.choice(scene.weathers) if setting == "weather" and scene.weathers else None,
    )


def _single(rng: Random, entity: Entity) -> Thing:
    count = _weighted(rng, COUNTS) if plural(entity) else 1
    size = rng.choice(get_args(Size)) if rng.random() < STATED["size"] else None
    place = rng.choice(get_args(Place)) if rng.random() < STATED["place"] else None
    if size in ("large", "huge") or (count == 2 and place not in ("left", "right")) or count == 3:
        place = None  # the copies would fill the image or the row
    return Thing(
        entity,
        count,
        size,
        place,
        mirrored=rng.random() < STATED["mirrored"],
        turned=rng.choice(get_args(Turn)) if rng.random() < STATED["turned"] else None,
        color=_color(rng, entity, STATED["color"]),
    )


def _one_of_several(rng: Random, entity: Entity) -> Thing:
    return Thing(
        entity,
        size=rng.choice(get_args(Size)) if rng.random() < STATED_OF_SEVERAL["size"] else None,
        mirrored=rng.random() < STATED_OF_SEVERAL["mirrored"],
        turned=rng.choice(get_args(Turn)) if rng.random() < STATED_OF_SEVERAL["turned"] else None,
        color=_color(rng, entity, STATED_OF_SEVERAL["color"]),
    )


def _others(rng: Random, pool: Pool, first: Entity, number: int) -> list[Entity]:
    """Return distinct entities whose names share no word, since a shared word would be ambiguous in a prompt."""
    chosen, words = [first], set(first.name.split())
    while len(chosen) < number:
        entity = _entity(rng, pool, plain=False)
        if not words & set(entity.name.split()):
            chosen.append(entity)
            words |= set(entity.name.split())
    return chosen


def _entity(rng: Random, pool: Pool, *, plain: bool) -> Entity:
    """Return an entity of the pool, or in training sometimes a made-up thing."""
    if pool == "train" and not plain and rng.random() < MADE_UP:
        return draw_thing(rng)
    return draw_entity(rng, pool)


def _color(rng: Random, entity: Entity, share: float) -> Color | None:
    """Return a color or None; None if the name contains a color, or the entity is made up."""
    if rng.random() >= share or is_made_up(entity) or set(entity.name.split()) & _COLORED:
        return None
    return rng.choice(get_args(Color))


def _weighted(rng: Random, shares: dict[_T, int]) -> _T:
    return rng.choices(tuple(shares), tuple(shares.values()))[0]
