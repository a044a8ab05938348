"""EntityDrawBench (Re-Imagen, section 4.2 and appendix C): entities in scenes that nobody has photographed.

Each entity is put into one of its category's templates, drawn by a seed; objects have a prompt of their own. An image
is grounded on the entity's own images, from a folder, or on what a retriever finds.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from pydantic import BaseModel, ConfigDict, Field, field_validator

from reimagen_common.errors import InvalidArgument
from reimagen_common.hidden import is_hidden
from reimagen_common.images import IMAGE_ENDINGS
from reimagen_evaluation.benches.item import Item, Reference
from reimagen_evaluation.toml_file import read_toml

OURS = Path(__file__).with_suffix(".toml")
_ARTICLE = re.compile(r"\b([Aa]) \{\}")
_ENTITY_FIRST = re.compile(r"^(?:(?:an?|the) )?\{\} ", re.IGNORECASE)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Category(_Frozen):
    """Entities of one kind, and the scenes that they are put in."""

    entities: tuple[str, ...] = Field(min_length=1)
    templates: tuple[str, ...] = Field(min_length=1, description="In which {} is the entity's name.")

    @field_validator("templates")
    @classmethod
    def _name_the_entity(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(f"{template!r} must have {{}} once, where the entity's name goes")
        return templates


class Object(_Frozen):
    """A thing with a prompt of its own."""

    name: str
    prompt: str


class EntityDrawBench(_Frozen):
    """The whole file."""

    categories: Mapping[str, Category]
    objects: tuple[Object, ...] = ()


def load(path: Path = OURS) -> EntityDrawBench:
    """Reads the entities and templates, by default ours: 250 entities and 20 objects.

    Raises:
        InvalidArgument: naming what is wrong with the file.
    """
    return read_toml(path, EntityDrawBench)


def items(
    bench: EntityDrawBench,
    *,
    seed: int = 0,
    references: Path | None = None,
    frequencies: Mapping[str, int] | None = None,
) -> list[Item]:
    """The prompts: one for each entity, then one for each object.

    Args:
        bench: the entities and templates.
        seed: draws each entity's template.
        references: folder with a folder of images for each entity, named as the entity is, or as its key; None for
            none. What an entity has no folder for has no references.
        frequencies: how often each entity is named in some corpus. The half that is named most is the group
            "frequent", the rest "infrequent", those missing in it among them. None: an item's group is its category.

    Raises:
        InvalidArgument: two entities give the same key.
    """
    frequent = None if frequencies is None else _more_frequent_half(bench, frequencies)
    made: dict[str, Item] = {}
    for category, content in bench.categories.items():
        for entity in content.entities:
            template = Random(f"{seed}/{category}/{entity}").choice(content.templates)  # noqa: S311
            group = category if frequent is None else "frequent" if entity in frequent else "infrequent"
            _add(made, _item(entity, _said(template, entity), _scene(template), group, references))
    for thing in bench.objects:
        _add(made, _item(thing.name, thing.prompt, thing.prompt, "objects", references))
    return list(made.values())


def read_frequencies(path: Path) -> dict[str, int]:
    """Reads a CSV with the columns `entity` and `count`.

    Raises:
        InvalidArgument: a column is missing, or a count is no number.
    """
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return {row["entity"]: int(row["count"]) for row in csv.DictReader(file)}
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidArgument(f"{path} must have the columns entity and count, a whole number: {error}") from error


def key_of(name: str) -> str:
    """A name as part of file names: letters and digits, others as dashes."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def _said(template: str, entity: str) -> str:
    """The template with the name in it, and with the article that the name takes."""
    vowel = entity[:1].upper() in set("AEIO") and not entity.lower().startswith("eu")
    return (_ARTICLE.sub(r"\1n {}", template) if vowel else template).format(entity)


def _scene(template: str) -> str:
    """What a template says beside the entity: "in the snow" of "a {} in the snow"."""
    return _ENTITY_FIRST.sub("", template)


def _item(entity: str, prompt: str, scene: str, group: str, references: Path | None) -> Item:
    key = key_of(entity)
    folders = [] if references is None else [references / entity, references / key]
    images = next((_images(folder) for folder in folders if folder.is_dir()), [])
    return Item(key, prompt, (entity,), scene, group, tuple(Reference(path, entity) for path in images))


def _add(made: dict[str, Item], item: Item) -> None:
    if item.key in made:
        raise InvalidArgument(f"{item.entities[0]!r} and {made[item.key].entities[0]!r} cannot be told apart")
    made[item.key] = item


def _images(folder: Path) -> Sequence[Path]:
    files = (path for path in folder.iterdir() if not is_hidden(path.name))
    return sorted(path for path in files if path.suffix.lower() in IMAGE_ENDINGS)


def _more_frequent_half(bench: EntityDrawBench, frequencies: Mapping[str, int]) -> set[str]:
    """The 50 % most frequent (section 4.2); of the same frequency the first in the file."""
    entities = [entity for category in bench.categories.values() for entity in category.entities]
    ranked = sorted(entities, key=lambda entity: -frequencies.get(entity, 0))
    return set(ranked[: (len(ranked) + 1) // 2])
