"""COCO: `captions_SPLIT.json` with a folder of pictures.

A picture has five captions or so, by as many people. It becomes one pair whose text is all of them, in their order:
words of any of them find it, words on which people agree weigh more, and a search's top two are never the same
picture, which a pair for each caption would make them, five times over. Its id is COCO's.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from reimagen_common.errors import InvalidArgument
from reimagen_common.pictures import MAXIMUM_PICTURE_BYTES
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair
from reimagen_retriever.knowledge_base.sources.files import Files


@dataclass(frozen=True)
class _Picture:
    place: str
    id: str
    text: str
    path: str
    url: str
    license: str


def caption_files(names: list[str]) -> list[str]:
    """Of a folder's files those that hold COCO's captions."""
    paths = map(PurePosixPath, names)
    return [
        str(path)
        for path in paths
        if str(path.parent) in {".", "annotations"} and path.name.startswith("captions_") and path.suffix == ".json"
    ]


class CocoSource:
    """Each picture of COCO's caption files once."""

    def __init__(self, files: Files, names: list[str], annotations: list[str]) -> None:
        """Reads the captions.

        Args:
            files: the folder.
            names: all files in it.
            annotations: those with captions.

        Raises:
            InvalidArgument: one of them is none of COCO's.
        """
        self._files = files
        self._annotations = annotations
        there = frozenset(names)
        self._pictures: list[_Picture] = []
        for name in annotations:
            try:
                with files.open(name) as file:
                    self._pictures += _pictures(json.load(file), PurePosixPath(name), there)
            except RejectedError as error:
                raise InvalidArgument(str(error), field="source") from error
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise InvalidArgument(f"{name} is no caption file of COCO: {error!r}", field="source") from error

    def identity(self) -> Iterator[str]:
        """The caption files with their stamps."""
        for name in self._annotations:
            yield f"{name} {self._files.stamp(name)}"

    def size(self) -> int:
        """How many pictures the files name."""
        return len(self._pictures)

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        """Every picture, in the order of the files."""
        for picture in islice(self._pictures, skip, None):
            try:
                image = self._files.read(picture.path, MAXIMUM_PICTURE_BYTES)
                yield SourcePair(picture.place, picture.id, picture.text, image, picture.url, picture.license)
            except RejectedError as error:
                yield Rejected(picture.place, error.reason, error.detail)


def _pictures(content: dict[str, Any], name: PurePosixPath, there: frozenset[str]) -> Iterator[_Picture]:
    captions: dict[object, list[tuple[int, str]]] = defaultdict(list)
    for caption in content["annotations"]:
        captions[caption["image_id"]].append((int(caption["id"]), " ".join(str(caption["caption"]).split())))
    licenses = {entry["id"]: str(entry["name"]) for entry in content.get("licenses", ())}
    split = name.stem.removeprefix("captions_")
    for picture in content["images"]:
        identifier, file_name = picture["id"], str(picture["file_name"])
        places = (f"{split}/{file_name}", f"images/{split}/{file_name}", f"images/{file_name}", file_name)
        yield _Picture(
            place=f"{name.name}/{identifier}",
            id=str(identifier),
            text=" ".join(_sentence(text) for _, text in sorted(captions[identifier]) if text),
            path=next((place for place in places if place in there), places[0]),
            url=str(picture.get("coco_url") or picture.get("flickr_url") or ""),
            license=licenses.get(picture.get("license"), ""),
        )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
