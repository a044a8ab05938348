"""Recipes of training samples: all of a sample but its pixels, as a function of a seed and the sample's number."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from reimagen_demo.art.entities import Entity
from reimagen_demo.art.made_up import STYLE, is_made_up
from reimagen_demo.art.pairs import STYLE_NAMES
from reimagen_demo.data.compositions import Composition, draw_composition
from reimagen_demo.data.frequency import Pool, draw_entity, group
from reimagen_demo.data.prompts import prompt_of
from reimagen_demo.data.references import Reference

REFERENCES = {1: {1: 35, 2: 40, 3: 25}, 2: {1: 65, 2: 35}, 3: {1: 100}}
"""Relative frequencies of the number of references of each thing, by the number of things."""
FIRST_SAME_STYLE, SAME_STYLE = 0.97, 0.7
"""Shares of a thing's first references, and of its others, in the style in which the thing is drawn: the first one says
what an image should show."""
MIRRORED = 0.3
"""Share of things whose references are mirror images of the drawings."""
VARIED = 0.65
"""Share of the other references that do not look as in the knowledge base."""
UNRELATED = 0.05
"""Share of samples with a reference of an unrelated entity."""


@dataclass(frozen=True)
class Recipe:
    """A training sample before it is drawn."""

    number: int
    """Number of the sample, counted over all shards."""
    prompt: str
    composition: Composition
    styles: tuple[str, ...]
    """The style in which each thing is drawn."""
    references: tuple[Reference, ...]
    """The sample's neighbors. The first ones show each thing once; one of an unrelated entity may be among them."""

    @property
    def flipped(self) -> list[bool]:
        """For each thing, whether its references are mirror images of the drawing."""
        mirrored = {reference.thing: reference.mirrored for reference in self.references}
        return [mirrored.get(thing, False) for thing in range(len(self.styles))]

    def facts(self) -> dict[str, Any]:
        """Return the contents of the sample's `.json`, except for the placements."""
        shown = self.composition
        return {
            "things": [
                {
                    "entity": thing.entity.name,
                    "style": style,
                    "count": thing.count,
                    "size": thing.size,
                    "place": thing.place,
                    "mirrored": thing.mirrored,
                    "turned": thing.turned,
                    "color": thing.color,
                    "made_up": is_made_up(thing.entity),
                }
                for thing, style in zip(shown.things, self.styles, strict=True)
            ],
            "relation": shown.relation,
            "scene": shown.scene.phrase,
            "time": shown.time,
            "weather": shown.weather,
            "split": shown.entities[0].split,
            "frequency": None if is_made_up(shown.entities[0]) else group(shown.entities[0]),
        }


def make_recipe(seed: int, pool: Pool, number: int, *, plain: bool, references: bool, unseen: bool = False) -> Recipe:
    """Make one recipe.

    Args:
        seed: the same seed gives the same recipe.
        pool: entities to draw from.
        number: number of the sample.
        plain: whether to show one thing in a scene and state nothing else; references then look as in the base.
        references: whether the sample has references.
        unseen: whether to name the scene in a wording that training never uses.
    """
    rng = Random(f"{seed}/{pool}/{number}")
    composition = draw_composition(rng, pool, plain=plain)
    prompt = prompt_of(rng, composition, unseen=unseen)
    styles = tuple(STYLE if is_made_up(each) else rng.choice(STYLE_NAMES) for each in composition.entities)
    shown = _references(rng, pool, composition.entities, styles, VARIED if not plain else 0.0) if references else ()
    return Recipe(number, prompt, composition, styles, shown)


def _references(
    rng: Random, pool: Pool, entities: Sequence[Entity], styles: Sequence[str], varied: float
) -> tuple[Reference, ...]:
    shares = REFERENCES[len(entities)]
    first, more = [], []
    for thing, (entity, style) in enumerate(zip(entities, styles, strict=True)):
        mirrored = varied > 0 and rng.random() < MIRRORED
        always_varied = mirrored or is_made_up(entity)
        count = rng.choices(tuple(shares), tuple(shares.values()))[0]
        of_thing = [
            Reference(entity, _style(rng, style, share), thing, mirrored, always_varied or rng.random() < varied)
            for share in [FIRST_SAME_STYLE] + [SAME_STYLE] * (count - 1)
        ]
        first.append(of_thing[0])
        more += of_thing[1:]
    rng.shuffle(first)
    rng.shuffle(more)
    shown = first + more
    if varied and rng.random() < UNRELATED:
        other = _unrelated(rng, pool, entities)
        shown.insert(
            rng.randint(0, len(shown)),
            Reference(other, rng.choice(STYLE_NAMES), None, False, rng.random() < varied),
        )
    return tuple(shown)


def _unrelated(rng: Random, pool: Pool, entities: Sequence[Entity]) -> Entity:
    while True:
        other = draw_entity(rng, pool)
        if other not in entities:
            return other


def _style(rng: Random, drawn: str, same: float) -> str:
    if drawn == STYLE or rng.random() < same:
        return drawn
    return rng.choice([style for style in STYLE_NAMES if style != drawn])
