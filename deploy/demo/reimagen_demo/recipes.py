"""Recipes of training samples: everything about a sample but its pixels, made where the knowledge base is."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Self

from reimagen_demo.entities import by_name
from reimagen_demo.frequency import Pool, group
from reimagen_demo.pairs import PairId
from reimagen_demo.prompts import Composition, draw_composition, prompt_of
from reimagen_demo.scenes import by_phrase


@dataclass(frozen=True)
class Recipe:
    """One training sample, before it is drawn."""

    number: int
    """Of the sample, counted over all shards."""
    prompt: str
    composition: Composition
    styles: tuple[str, ...]
    """The style that each entity is drawn in."""
    neighbors: tuple[str, ...]
    """The ids of its neighbors, best first."""

    def facts_json(self) -> str:
        """What the sample's `.json` tells."""
        return json.dumps(self._facts())

    def to_json(self) -> str:
        """As a line of JSON."""
        return json.dumps({"number": self.number, "prompt": self.prompt} | self._facts())

    @classmethod
    def from_json(cls, line: str) -> Self:
        """From what `to_json` has written."""
        told = json.loads(line)
        composition = Composition(
            entities=tuple(by_name()[name] for name in told["entities"]),
            scene=by_phrase()[told["scene"]],
            **{name: told[name] for name in ("count", "size", "place", "time", "weather")},
        )
        return cls(told["number"], told["prompt"], composition, tuple(told["styles"]), tuple(told["neighbors"]))

    def _facts(self) -> dict[str, Any]:
        shown, first = self.composition, self.composition.entities[0]
        return {
            "entities": [entity.name for entity in shown.entities],
            "styles": self.styles,
            "scene": shown.scene.phrase,
            "count": shown.count,
            "size": shown.size,
            "place": shown.place,
            "time": shown.time,
            "weather": shown.weather,
            "split": first.split,
            "frequency": group(first),
            "neighbors": self.neighbors,
        }


@dataclass(frozen=True)
class Found:
    """What came of asking the retriever for the neighbors of many samples."""

    neighbors: int
    wrong: int
    """Neighbors that show none of the entities that their prompt names."""
    short: int
    """Samples with fewer than two neighbors."""


def make_recipes(count: int, *, seed: int, pool: Pool, plain: bool, knowledge_base: Path | None) -> list[Recipe]:
    """Makes recipes, each a function of the seed, its number and what the knowledge base holds.

    Args:
        count: How many.
        seed: The same seed gives the same recipes.
        pool: The entities to draw from.
        plain: Name nothing but an entity and a scene.
        knowledge_base: Where neighbors are found; None: samples have none.
    """
    from reimagen_demo.retrieved import choose_neighbors, draw_style, search_all

    rngs = [Random(f"{seed}/{pool}/{number}") for number in range(count)]
    compositions = [draw_composition(rng, pool, plain=plain) for rng in rngs]
    prompts = [prompt_of(rng, composition) for rng, composition in zip(rngs, compositions, strict=True)]
    found = search_all(knowledge_base, compositions, prompts) if knowledge_base else [()] * count
    recipes = []
    for number, (rng, composition, prompt) in enumerate(zip(rngs, compositions, prompts, strict=True)):
        neighbors = choose_neighbors(rng, found[number])
        styles = tuple(draw_style(rng, entity, neighbors) for entity in composition.entities)
        recipes.append(Recipe(number, prompt, composition, styles, neighbors))
    return recipes


def judge_neighbors(recipes: Sequence[Recipe]) -> Found:
    """Counts what the retriever found for recipes made with a knowledge base."""
    wrong = short = 0
    for recipe in recipes:
        named = {entity.code for entity in recipe.composition.entities}
        wrong += sum(PairId.parse(neighbor).code not in named for neighbor in recipe.neighbors)
        short += len(recipe.neighbors) < 2
    return Found(sum(len(recipe.neighbors) for recipe in recipes), wrong, short)


def write_recipes(recipes: Sequence[Recipe], path: Path) -> None:
    """Writes them as lines of JSON, compressed; the same recipes give the same bytes."""
    text = "".join(f"{recipe.to_json()}\n" for recipe in recipes)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_recipes(path: Path) -> list[Recipe]:
    """Reads what `write_recipes` has written."""
    return [Recipe.from_json(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
