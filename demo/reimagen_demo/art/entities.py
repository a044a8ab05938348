"""The things the demonstration knows: their names, their families, and which are held out of training.

`entities.tsv` is the reviewable list. Its split is fixed: a tenth of the entities, whole families among them, exists
only in the knowledge base, so that drawing one faithfully proves that the references are used.
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
    """One thing that can be drawn."""

    code: str
    """Its Unicode code points, the name it has in every icon set's `chars.json`."""
    phrase: str
    """As it stands in a prompt, with its article if it takes one: "a polar bear", "scissors"."""
    family: str
    """The family of concepts it belongs to, such as `animal-marine`."""
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
    """All entities, in the order of the list."""
    text = files(__package__).joinpath("entities.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return tuple(Entity(row["code"], row["phrase"], row["family"], cast(Split, row["split"])) for row in rows)


def of_split(split: Split) -> tuple[Entity, ...]:
    """The entities of one side of the split."""
    return tuple(entity for entity in entities() if entity.split == split)


@cache
def by_name() -> dict[str, Entity]:
    """All entities by their names."""
    return {entity.name: entity for entity in entities()}


@cache
def by_code() -> dict[str, Entity]:
    """All entities by their codes."""
    return {entity.code: entity for entity in entities()}
