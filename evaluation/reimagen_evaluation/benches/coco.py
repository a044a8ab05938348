"""COCO's annotation files, for the FID-30K protocol (Re-Imagen, section 4.1).

The protocol draws 30,000 random captions of the validation set and compares the images with the whole validation set.
"""

import json
from pathlib import Path
from random import Random
from typing import Any

from reimagen_common.errors import InvalidArgument
from reimagen_evaluation.benches.item import Item

FID_PROMPTS = 30_000


def items(annotations: Path, *, count: int = FID_PROMPTS, seed: int = 0) -> list[Item]:
    """Return a random sample of the captions as items.

    Args:
        annotations: `captions_val2014.json`, or another file of that format.
        count: number of prompts; all captions if there are fewer.
        seed: the sample's seed.

    Raises:
        InvalidArgument: the file is not a COCO caption file.
    """
    captions = _read(annotations, "annotations", ("id", "caption"))
    chosen = Random(seed).sample(captions, min(count, len(captions)))  # noqa: S311
    bench_items = []
    for caption in chosen:
        text = " ".join(caption["caption"].split())
        bench_items.append(Item(str(caption["id"]), text, (), text, "coco"))
    return bench_items


def images(annotations: Path, folder: Path) -> list[Path]:
    """Return the set's real images, with which generated images are compared.

    Raises:
        InvalidArgument: an image is missing from the folder.
    """
    files = [folder / image["file_name"] for image in _read(annotations, "images", ("id", "file_name"))]
    if missing := [file for file in files if not file.exists()]:
        raise InvalidArgument(
            f"{len(missing):,} of {len(files):,} images are missing from {folder}, for example {missing[0].name}"
        )
    return files


def _read(annotations: Path, part: str, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = json.loads(annotations.read_text(encoding="utf-8"))[part]
        if not rows or not all(field in row for row in rows for field in fields):
            raise ValueError(f"{part} must have {' and '.join(fields)}")
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(f"{annotations} is not a COCO caption file: {error}") from error
    return rows
