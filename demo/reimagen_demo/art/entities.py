"""The demonstration's entities: their names, their families, and which are held out of training.

`entities.tsv` is the list, for review. Its split is fixed: a tenth of the entities, with whole families, exist only
in the knowledge base, so that drawing one faithfully proves that the references are used.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, cast

Split = Literal["train", "held-out"]

ARTICLES = ("a ", "an ")


@dataclass(frozen=True)
class Entity:
    """An object that can be drawn."""

    code: str
    """Unicode code points, the entity's name in every icon set's `chars.json`."""
    phrase: str
    """Name in a prompt, with its article if it takes one: "a polar bear", "scissors"."""
    family: str
    """Family of concepts that the entity belongs to, such as `animal-marine`."""
    split: Split

    @property
    def name(self) -> str:
        """The phrase without its article."""
        for article in ARTICLES:
            if self.phrase.startswith(article):
                return self.phrase.removeprefix(article)
        return self.phrase


@cache
def entities() -> tuple[Entity, ...]:
    """Return all entities, in the order of the list."""
    text = files(__package__).joinpath("entities.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return tuple(Entity(row["code"], row["phrase"], row["family"], cast(Split, row["split"])) for row in rows)


def of_split(split: Split) -> tuple[Entity, ...]:
    """Return the entities of one side of the split."""
    return tuple(entity for entity in entities() if entity.split == split)


@cache
def by_name() -> dict[str, Entity]:
    """Return all entities, by name."""
    return {entity.name: entity for entity in entities()}


@cache
def by_code() -> dict[str, Entity]:
    """Return all entities, by code."""
    return {entity.code: entity for entity in entities()}
