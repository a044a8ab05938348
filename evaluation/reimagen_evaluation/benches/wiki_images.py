"""WikiImages (Re-Imagen, section 4.1 and appendix B): filtered captions and images of WebQA.

It is read from WebQA's own files. `WebQA_train_val.json` holds questions whose facts name images and captions.
`imgs.tsv` has one image per line, its id and its file in base64. `imgs.lineidx` has each line's offset in bytes; that
of image i is at index i % 10,000,000.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from reimagen_common.errors import InvalidArgument
from reimagen_common.wiki_images import reason_against
from reimagen_evaluation import records
from reimagen_evaluation.benches.item import Item

QUESTIONS = "WebQA_train_val.json"
_LINES = 10_000_000


@dataclass(frozen=True)
class Caption:
    """An image's caption."""

    image_id: int
    caption: str


def captions(questions: Path, split: Literal["train", "val"]) -> list[Caption]:
    """Return the captions of a split that pass the filter, each image once, in the order of the file.

    Raises:
        InvalidArgument: the file is not WebQA's.
    """
    found: dict[int, Caption] = {}
    try:
        content: dict[str, Any] = json.loads(questions.read_text(encoding="utf-8"))
        for question in content.values():
            if question["split"] == split:
                for fact in (*question.get("img_posFacts", ()), *question.get("img_negFacts", ())):
                    text = " ".join(fact["caption"].split())
                    found.setdefault(int(fact["image_id"]), Caption(int(fact["image_id"]), text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArgument(f"{questions} is not a WebQA_train_val.json: {error}") from error
    return [caption for caption in found.values() if not reason_against(caption.caption)]


def items(questions: Path, *, count: int = 30_000, seed: int = 0, split: Literal["train", "val"] = "val") -> list[Item]:
    """Return at most `count` random captions of a split as items.

    Raises:
        InvalidArgument: the file is not WebQA's.
    """
    found = captions(questions, split)
    chosen = Random(seed).sample(found, min(count, len(found)))  # noqa: S311
    return [Item(str(caption.image_id), caption.caption, (), caption.caption, "wiki-images") for caption in chosen]


def images(folder: Path, image_ids: list[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the image files of the ids, read from imgs.tsv at the offsets of imgs.lineidx.

    Raises:
        InvalidArgument: the index has no line for an id, or the line holds another image.
    """
    offsets = [int(line) for line in (folder / "imgs.lineidx").read_text().split()]
    with (folder / "imgs.tsv").open("rb") as file:
        for image_id in image_ids:
            if image_id % _LINES >= len(offsets):
                raise InvalidArgument(f"imgs.lineidx has no line of image {image_id}")
            file.seek(offsets[image_id % _LINES])
            name, _, content = file.readline().rstrip(b"\n").partition(b"\t")
            if name != str(image_id).encode():
                raise InvalidArgument(f"imgs.tsv has image {name.decode(errors='replace')} in place of {image_id}")
            yield image_id, base64.b64decode(content)


def write_images(folder: Path, to: Path, split: Literal["train", "val"] = "val") -> None:
    """Write all images of a split that pass the filter as files of a folder; existing files are not rewritten.

    Raises:
        InvalidArgument: the files are not WebQA's.
    """
    to.mkdir(parents=True, exist_ok=True)
    selected = [caption.image_id for caption in captions(folder / QUESTIONS, split)]
    missing = [image_id for image_id in selected if not (to / f"{image_id}.jpg").exists()]
    for image_id, content in images(folder, missing):
        records.replace(to / f"{image_id}.jpg", content)
