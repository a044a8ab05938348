"""A benchmark's items as a file, one JSON object per line, so that all commands read the same prompts."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation import records
from reimagen_evaluation.benches.item import Item, Reference

ITEMS = "items.jsonl"


def write(items: Iterable[Item], path: Path) -> None:
    """Write the items.

    Raises:
        InvalidArgument: two items have the same key.
    """
    items = list(items)
    key, times = Counter(item.key for item in items).most_common(1)[0]
    if times > 1:
        raise InvalidArgument(f"{key!r} is the key of {times} items; keys must be unique", field="key")
    lines = [json.dumps(asdict(item), default=str, ensure_ascii=False) + "\n" for item in items]
    records.replace(path, "".join(lines).encode())


def read(path: Path) -> list[Item]:
    """Read the items that `write` wrote.

    Raises:
        InvalidArgument: the file is missing, or a line is not an item.
    """
    if not path.exists():
        raise InvalidArgument(f"there is no {path}; `reimagen-evaluate bench` writes it")
    items = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            values = json.loads(line)
            references = tuple(Reference(Path(pair["path"]), pair["caption"]) for pair in values.pop("references"))
            items.append(Item(**values | {"entities": tuple(values["entities"]), "references": references}))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgument(f"line {number} of {path} is not an item: {error}") from error
    return items
