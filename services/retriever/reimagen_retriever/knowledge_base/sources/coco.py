"""COCO source: `captions_SPLIT.json` with a folder of images.

An image has about five captions, each by another annotator. It becomes one pair whose caption is all of them in order:
words of any annotator find it, and words on which annotators agree weigh more. With a pair for each caption, the top
two of a search would often be the same image. The pair's id is COCO's image id.
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
    """Return the files of a folder whose names are those of COCO caption files."""
    paths = map(PurePosixPath, names)
    return [
        str(path)
        for path in paths
        if str(path.parent) in {".", "annotations"}
        and path.name.startswith("captions_")
        and path.suffix.lower() == ".json"
    ]


class CocoSource:
    """Source with one pair for each image of COCO's caption files."""

    def __init__(self, files: Files, listing: Listing, annotations: list[str]) -> None:
        """Read the captions.

        Args:
            files: The folder.
            listing: Content of the folder.
            annotations: Names of the caption files. Files of another format, such as results for COCO's evaluation,
                are reported.

        Raises:
            InvalidArgument: None of the files has captions of images.
        """
        self._files = files
        self._annotations = annotations
        existing = frozenset(listing.names)
        self._images = list[_Image]()
        self._others = list[Rejected]()
        for name in annotations:
            try:
                with files.open(name) as file:
                    for entry in _images(json.load(file), PurePosixPath(name), existing):
                        if isinstance(entry, Rejected):
                            self._others.append(entry)
                        else:
                            self._images.append(entry)
            except RejectedError as error:
                self._others.append(Rejected(name, error.reason, error.detail))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                self._others.append(Rejected(name, "not a COCO caption file", repr(error)))
        if not self._images:
            reason = f": {self._others[0].detail}" if self._others else ""
            raise InvalidArgument(f"{annotations[0]} is not a COCO caption file{reason}", field="source")
        read = {*annotations, *(image.path for image in self._images)}
        self._others += listing.left_over(read, "not in the captions")

    def identity(self) -> Iterator[str]:
        """Return the caption files with their stamps, and the names of other files."""
        for name in self._annotations:
            yield stamp_of(self._files, name)
        yield from (other.location for other in self._others)

    def size(self) -> int:
        """Return the number of images that the files list."""
        return len(self._images)

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        """Yield every image in the order of the files."""
        for image in islice(self._images, skip, None):
            try:
                data = self._files.read(image.path, MAXIMUM_IMAGE_BYTES)
                yield SourcePair(image.location, image.id, image.caption, data, image.url, image.license)
            except RejectedError as error:
                yield Rejected(image.location, error.reason, error.detail)

    def left_over(self) -> Iterator[Rejected]:
        """Yield files without captions, captions without an image, and images without captions."""
        yield from self._others


def _images(content: Any, name: PurePosixPath, existing: frozenset[str]) -> Iterator[_Image | Rejected]:
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise RejectedError("not a COCO caption file", "it must be an object with images and annotations")
    captions: dict[object, list[tuple[int, str]]] = defaultdict(list)
    split = name.stem.removeprefix("captions_")
    broken = list[Rejected]()
    for number, caption in enumerate(content["annotations"]):
        try:
            captions[caption["image_id"]].append((int(caption["id"]), first(as_row(caption.items()), ("caption",))))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            broken.append(Rejected(f"{name.name}/annotations/{number}", "broken caption", repr(error)))
    licenses = {each["id"]: str(each["name"]) for each in content.get("licenses") or ()}
    for number, entry in enumerate(content["images"]):
        try:
            identifier, file_name = entry["id"], str(entry["file_name"])
            paths = (f"{split}/{file_name}", f"images/{split}/{file_name}", f"images/{file_name}", file_name)
            texts = [text for _, text in sorted(captions.pop(identifier, ())) if text.strip()]
            row = as_row(entry.items())
            yield _Image(
                location=f"{name.name}/{identifier}",
                id=str(identifier),
                caption=joined([*texts, ""]).strip(),
                path=next((path for path in paths if path in existing), paths[0]),
                url=first(row, ("coco_url", "flickr_url")),
                license=licenses.get(entry.get("license"), ""),
            )
        except (RejectedError, KeyError, TypeError, AttributeError) as error:
            yield Rejected(f"{name.name}/images/{number}", "broken image entry", repr(error))
    yield from broken
    for identifier in captions:
        yield Rejected(f"{name.name}/{identifier}", "no image", "the captions name an image that is not listed")
