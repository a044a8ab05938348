"""COCO's captions, as its annotation files have them, for the protocol of FID-30K (Re-Imagen, section 4.1).

30,000 captions of the validation set are drawn at random; the images are compared with the whole validation set.
"""

import json
from pathlib import Path
from random import Random
from typing import Any

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation.benches.item import Item

FID_PROMPTS = 30_000


def items(annotations: Path, *, count: int = FID_PROMPTS, seed: int = 0) -> list[Item]:
    """So many captions, drawn by a seed, at most all.

    Args:
        annotations: `captions_val2014.json`, or another of that form.
        count: how many prompts.
        seed: draws them.

    Raises:
        InvalidArgument: the file is none of COCO's.
    """
    captions = _read(annotations, "annotations", ("id", "caption"))
    chosen = Random(seed).sample(captions, min(count, len(captions)))  # noqa: S311
    made = []
    for caption in chosen:
        text = " ".join(caption["caption"].split())
        made.append(Item(str(caption["id"]), text, (), text, "coco"))
    return made


def images(annotations: Path, folder: Path) -> list[Path]:
    """The set's own images, which drawn ones are compared with.

    Raises:
        InvalidArgument: one is missing from the folder.
    """
    files = [folder / image["file_name"] for image in _read(annotations, "images", ("id", "file_name"))]
    if missing := [file for file in files if not file.exists()]:
        raise InvalidArgument(f"{len(missing):,} of {len(files):,} images are missing, {missing[0].name} among them")
    return files


def _read(annotations: Path, part: str, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = json.loads(annotations.read_text(encoding="utf-8"))[part]
        if not rows or not all(field in row for row in rows for field in fields):
            raise ValueError(f"{part} must have {' and '.join(fields)}")
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(f"{annotations} is no caption file of COCO: {error}") from error
    return rows
