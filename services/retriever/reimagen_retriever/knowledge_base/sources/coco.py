"""COCO: `captions_SPLIT.json` with a folder of images.

An image has five captions or so, by as many people. It becomes one pair whose text is all of them, in their order:
words of any of them find it, words on which people agree weigh more, and a search's top two are never the same
image, which a pair for each caption would make them, five times over. Its id is COCO's.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from reimagen_common.errors import InvalidArgument
from reimagen_common.images import MAXIMUM_IMAGE_BYTES
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair
from reimagen_retriever.knowledge_base.sources.files import Files, Listing, stamp_of
from reimagen_retriever.knowledge_base.sources.rows import as_row, first, joined


@dataclass(frozen=True)
class _Image:
    location: str
    id: str
    caption: str
    path: str
    url: str
    license: str


def caption_files(names: list[str]) -> list[str]:
    """Of a folder's files those that hold COCO's captions."""
    paths = map(PurePosixPath, names)
    return [
        str(path)
        for path in paths
        if str(path.parent) in {".", "annotations"}
        and path.name.startswith("captions_")
        and path.suffix.lower() == ".json"
    ]


class CocoSource:
    """Each image of COCO's caption files once."""

    def __init__(self, files: Files, listing: Listing, annotations: list[str]) -> None:
        """Reads the captions.

        Args:
            files: the folder.
            listing: what it holds.
            annotations: the files that should have captions. Others among them, such as results for COCO's
                evaluation, are reported.

        Raises:
            InvalidArgument: none of them has captions of images.
        """
        self._files = files
        self._annotations = annotations
        there = frozenset(listing.names)
        self._images = list[_Image]()
        self._others = list[Rejected]()
        for name in annotations:
            try:
                with files.open(name) as file:
                    for entry in _images(json.load(file), PurePosixPath(name), there):
                        if isinstance(entry, Rejected):
                            self._others.append(entry)
                        else:
                            self._images.append(entry)
            except RejectedError as error:
                self._others.append(Rejected(name, error.reason, error.detail))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                self._others.append(Rejected(name, "no caption file of COCO", repr(error)))
        if not self._images:
            why = f": {self._others[0].detail}" if self._others else ""
            raise InvalidArgument(f"{annotations[0]} is no caption file of COCO{why}", field="source")
        read = {*annotations, *(picture.path for picture in self._images)}
        self._others += listing.left_over(read, "not in the captions")

    def identity(self) -> Iterator[str]:
        """The caption files with their stamps, and what else there is."""
        for name in self._annotations:
            yield stamp_of(self._files, name)
        yield from (other.location for other in self._others)

    def size(self) -> int:
        """How many images the files name."""
        return len(self._images)

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        """Every image, in the order of the files."""
        for picture in islice(self._images, skip, None):
            try:
                image = self._files.read(picture.path, MAXIMUM_IMAGE_BYTES)
                yield SourcePair(picture.location, picture.id, picture.caption, image, picture.url, picture.license)
            except RejectedError as error:
                yield Rejected(picture.location, error.reason, error.detail)

    def left_over(self) -> Iterator[Rejected]:
        """Files without captions, captions without an image, and images without captions."""
        yield from self._others


def _images(content: Any, name: PurePosixPath, there: frozenset[str]) -> Iterator[_Image | Rejected]:
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise RejectedError("no caption file of COCO", "it is no object with images and annotations")
    captions: dict[object, list[tuple[int, str]]] = defaultdict(list)
    split = name.stem.removeprefix("captions_")
    broken = list[Rejected]()
    for number, caption in enumerate(content["annotations"]):
        try:
            captions[caption["image_id"]].append((int(caption["id"]), first(as_row(caption.items()), ("caption",))))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            broken.append(Rejected(f"{name.name}/annotations/{number}", "broken caption", repr(error)))
    licenses = {entry["id"]: str(entry["name"]) for entry in content.get("licenses") or ()}
    for number, picture in enumerate(content["images"]):
        try:
            identifier, file_name = picture["id"], str(picture["file_name"])
            places = (f"{split}/{file_name}", f"images/{split}/{file_name}", f"images/{file_name}", file_name)
            texts = [text for _, text in sorted(captions.pop(identifier, ())) if text.strip()]
            row = as_row(picture.items())
            yield _Image(
                location=f"{name.name}/{identifier}",
                id=str(identifier),
                caption=joined([*texts, ""]).strip(),
                path=next((location for location in places if location in there), places[0]),
                url=first(row, ("coco_url", "flickr_url")),
                license=licenses.get(picture.get("license"), ""),
            )
        except (RejectedError, KeyError, TypeError, AttributeError) as error:
            yield Rejected(f"{name.name}/images/{number}", "broken image entry", repr(error))
    yield from broken
    for identifier in captions:
        yield Rejected(f"{name.name}/{identifier}", "no image", "the captions are of an image that is not listed")
