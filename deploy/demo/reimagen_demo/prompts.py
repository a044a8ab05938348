"""What a training picture shows, and how a prompt says it.

More than half of all pictures are plain, one entity in a scene. In the others the prompt names something more: two of
the thing, a second thing, its size or place, the time of day or the weather.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from reimagen_demo.entities import Entity
from reimagen_demo.frequency import Pool, draw_entity
from reimagen_demo.scenes import SCENES, Scene, Time, Weather

Size = Literal["tiny", "huge"]
Place = Literal["left", "right"]

PLAIN = 0.58
"""Share of compositions in which nothing but an entity and a scene is named."""
RELATIONS = {"second": 14, "number": 6, "size": 6, "place": 6, "time": 5, "weather": 5}
"""What is named in the others, in proportion."""
AND_A_SETTING = 0.2
"""Share of compositions of a second thing, number, size or place that name time or weather as well, where it fits."""
NAMED_PLACES = 0.3
"""Share of compositions of two entities whose prompt says which of them is where."""

SIZES: dict[Size, tuple[str, ...]] = {"tiny": ("tiny", "miniature"), "huge": ("huge", "gigantic")}
PLACES: dict[Place, tuple[str, ...]] = {
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
}
TIMES: dict[Time, tuple[str, ...]] = {
    "night": ("at night", "by night"),
    "dawn": ("at dawn", "at sunrise"),
    "sunset": ("at sunset", "at dusk"),
}
WEATHERS: dict[Weather, tuple[str, ...]] = {
    "fog": ("in fog", "in thick fog"),
    "snow": ("in falling snow", "in a snowfall"),
    "rain": ("in the rain", "in heavy rain"),
}
JOINTS = ("and", "and", "and", "next to", "beside")
"""What stands between two entities."""

# Wolves, mice and octopuses: BM25's stemmer finds no singular in them, and two deer have no plural.
_NO_PLURAL = re.compile(r".*([^s]s|f|ife|ix|man|fish)|mouse|goose|moose|tooth|deer|bison|ox|fly|pie|die|index")
_UNCOUNTED = {"broccoli", "bok choy", "mount fuji", "kaaba", "earth globe", "sun disc", "smiling sun", "yo yo"}
_IN_OES = {"tomato", "potato", "mosquito", "volcano"}


@dataclass(frozen=True)
class Composition:
    """What a picture shows."""

    entities: tuple[Entity, ...]
    """One, or two side by side: the first on the left, unless `place` puts it on the right."""
    scene: Scene
    count: int = 1
    """How many of the entity there are, where it is alone: 1 or 2."""
    size: Size | None = None
    place: Place | None = None
    """Where the first entity is, if the prompt says so; of two the other one is on the other side."""
    time: Time | None = None
    weather: Weather | None = None


def draw_composition(rng: Random, pool: Pool, *, plain: bool) -> Composition:
    """A random composition of the pool's entities; if `plain`, of one entity in a scene and nothing else."""
    entity = draw_entity(rng, pool)
    if plain or rng.random() < PLAIN:
        return Composition((entity,), rng.choice(SCENES))
    relation = rng.choices(tuple(RELATIONS), tuple(RELATIONS.values()))[0]
    setting = relation if relation in ("time", "weather") else None
    if setting is None and rng.random() < AND_A_SETTING:
        setting = rng.choice(("time", "weather"))
    scene = rng.choice([scene for scene in SCENES if _takes(scene, setting)])
    return Composition(
        entities=(entity, _second(rng, pool, entity)) if relation == "second" else (entity,),
        scene=scene,
        count=2 if relation == "number" and plural(entity) else 1,
        size=rng.choice(get_args(Size)) if relation == "size" else None,
        place=rng.choice(get_args(Place)) if _has_a_place(rng, relation) else None,
        time=rng.choice(scene.times) if setting == "time" else None,
        weather=rng.choice(scene.weathers) if setting == "weather" else None,
    )


def prompt_of(rng: Random, composition: Composition) -> str:
    """A prompt that asks for the composition, in one of the ways that there are."""
    scene = composition.scene
    # Nobody says "on a snowy day at night".
    paraphrases = [phrase for phrase in scene.paraphrases if not (composition.time and phrase.endswith("day"))]
    where = scene.phrase if rng.random() < 0.5 else rng.choice(paraphrases)
    subject = _subject(rng, composition)
    said = f"{subject}, {where}" if composition.place else f"{subject} {where}"
    if composition.time:
        said = _with_setting(rng, said, TIMES[composition.time])
    if composition.weather:
        said = _with_setting(rng, said, WEATHERS[composition.weather])
    return said


def plural(entity: Entity) -> str | None:
    """What two of them are called: "foxes"; None where English has no plain answer or BM25 wouldn't know it."""
    name = entity.name
    last = name.split()[-1]
    if name == entity.phrase or name in _UNCOUNTED or re.search(r" (of|with|and|on) ", name):
        return None
    if _NO_PLURAL.fullmatch(last):
        return None
    if re.search(r"[^aeiou]y$", last):
        return f"{name[:-1]}ies"
    if re.search(r"(s|x|z|ch|sh)$", last) or last in _IN_OES:
        return f"{name}es"
    return f"{name}s"


def _subject(rng: Random, composition: Composition) -> str:
    first = composition.entities[0]
    place = rng.choice(PLACES[composition.place]) if composition.place else ""
    if len(composition.entities) == 2:
        second = composition.entities[1]
        if composition.place is None:
            return f"{first.phrase} {rng.choice(JOINTS)} {second.phrase}"
        other = rng.choice(PLACES["right" if composition.place == "left" else "left"])
        return f"{first.phrase} {place} and {second.phrase} {other}"
    if composition.count == 2:
        return f"two {plural(first)}"
    if composition.size:
        size = rng.choice(SIZES[composition.size])
        return f"{size} {first.name}" if first.name == first.phrase else f"a {size} {first.name}"
    return f"{first.phrase} {place}" if place else first.phrase


def _with_setting(rng: Random, said: str, phrases: Sequence[str]) -> str:
    phrase = rng.choice(phrases)
    return f"{said} {phrase}" if rng.random() < 0.7 else f"{phrase}, {said}"


def _second(rng: Random, pool: Pool, first: Entity) -> Entity:
    """Another entity, whose name has no word of the first one's: else nothing would tell whose word it is."""
    while True:
        second = draw_entity(rng, pool)
        if not set(first.name.split()) & set(second.name.split()):
            return second


def _has_a_place(rng: Random, relation: str) -> bool:
    return relation == "place" or (relation == "second" and rng.random() < NAMED_PLACES)


def _takes(scene: Scene, setting: str | None) -> bool:
    return setting is None or bool(scene.times if setting == "time" else scene.weathers)
