"""EntityDrawBench (Re-Imagen, section 4.2 and appendix C): entities in scenes that have never been photographed.

Each entity gets one of its category's templates, chosen by a seed; each object has its own prompt. An image
is grounded on the entity's images in a folder, or on the neighbors that a retriever returns.
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
    """The entities of one kind, and the scenes to draw them in."""

    entities: tuple[str, ...] = Field(min_length=1)
    templates: tuple[str, ...] = Field(min_length=1, description="Prompts in which {} stands for the entity's name.")

    @field_validator("templates")
    @classmethod
    def _name_the_entity(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(f"{template!r} must have {{}} once, in place of the entity's name")
        return templates


class Object(_Frozen):
    """An object with its own prompt."""

    name: str
    prompt: str


class EntityDrawBench(_Frozen):
    """The contents of a benchmark file."""

    categories: Mapping[str, Category]
    objects: tuple[Object, ...] = ()


def load(path: Path = OURS) -> EntityDrawBench:
    """Read the entities and templates; the default file has 250 entities and 20 objects.

    Raises:
        InvalidArgument: the file cannot be read or a field is invalid; the message names it.
    """
    return read_toml(path, EntityDrawBench)


def items(
    bench: EntityDrawBench,
    *,
    seed: int = 0,
    references: Path | None = None,
    frequencies: Mapping[str, int] | None = None,
) -> list[Item]:
    """Return one prompt for each entity, then one for each object.

    Args:
        bench: the entities and templates.
        seed: chooses each entity's template.
        references: folder with a folder of images for each entity, named after the entity or its key. An entity without
            a folder has no references. None: no entity has references.
        frequencies: number of mentions of each entity in a corpus. The more frequent half is the group
            "frequent"; the rest, and entities that are not listed, are "infrequent". None: the group is the category.

    Raises:
        InvalidArgument: two entities have the same key.
    """
    frequent = None if frequencies is None else _more_frequent_half(bench, frequencies)
    by_key: dict[str, Item] = {}
    for category, content in bench.categories.items():
        for entity in content.entities:
            template = Random(f"{seed}/{category}/{entity}").choice(content.templates)  # noqa: S311
            group = category if frequent is None else "frequent" if entity in frequent else "infrequent"
            _add(by_key, _item(entity, _prompt(template, entity), _scene(template), group, references))
    for drawn in bench.objects:
        _add(by_key, _item(drawn.name, drawn.prompt, drawn.prompt, "objects", references))
    return list(by_key.values())


def read_frequencies(path: Path) -> dict[str, int]:
    """Read a CSV with the columns `entity` and `count`.

    Raises:
        InvalidArgument: a column is missing, or a count is not a whole number.
    """
    with path.open(encoding="utf-8", newline="") as file:
        try:
            return {row["entity"]: int(row["count"]) for row in csv.DictReader(file)}
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidArgument(f"{path} must have the columns entity and count, a whole number: {error}") from error


def key_of(name: str) -> str:
    """Return a name for use in file names: lower case, with a dash for each run of other than letters and digits."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def _prompt(template: str, entity: str) -> str:
    """Fill the name into the template, with the article that fits the name."""
    vowel = entity[:1].upper() in set("AEIO") and not entity.lower().startswith("eu")
    return (_ARTICLE.sub(r"\1n {}", template) if vowel else template).format(entity)


def _scene(template: str) -> str:
    """Return the template without the entity: "in the snow" for "a {} in the snow"."""
    return _ENTITY_FIRST.sub("", template)


def _item(entity: str, prompt: str, scene: str, group: str, references: Path | None) -> Item:
    key = key_of(entity)
    folders = [] if references is None else [references / entity, references / key]
    images = next((_images(folder) for folder in folders if folder.is_dir()), [])
    return Item(key, prompt, (entity,), scene, group, tuple(Reference(path, entity) for path in images))


def _add(by_key: dict[str, Item], item: Item) -> None:
    if item.key in by_key:
        raise InvalidArgument(
            f"{item.entities[0]!r} and {by_key[item.key].entities[0]!r} have the same key, {item.key!r}; rename one"
        )
    by_key[item.key] = item


def _images(folder: Path) -> Sequence[Path]:
    files = (path for path in folder.iterdir() if not is_hidden(path.name))
    return sorted(path for path in files if path.suffix.lower() in IMAGE_ENDINGS)


def _more_frequent_half(bench: EntityDrawBench, frequencies: Mapping[str, int]) -> set[str]:
    """Return the 50 % most frequent entities (section 4.2); at equal counts the first in the file wins."""
    entities = [entity for category in bench.categories.values() for entity in category.entities]
    ranked = sorted(entities, key=lambda entity: -frequencies.get(entity, 0))
    return set(ranked[: (len(ranked) + 1) // 2])
