"""WikiImages source (Re-Imagen, section 4.1 and appendix B): captions and images of WebQA, filtered.

WebQA's files: `WebQA_train_val.json` has questions whose facts name images and captions. `imgs.tsv` has one image on
each line: its id and its file in base64. `imgs.lineidx` has the byte offset of each line; image i is on line
i % 10,000,000. The paper's filter leaves out captions over 15 tokens, and those with a date or a wiki id.
"""

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from reimagen_common.errors import InvalidArgument
from reimagen_common.images import MAXIMUM_IMAGE_BYTES
from reimagen_common.wiki_images import reason_against
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair
from reimagen_retriever.knowledge_base.sources.files import Files, Listing

QUESTIONS = "WebQA_train_val.json"
IMAGES = "imgs.tsv"
INDEX = "imgs.lineidx"
_LINES = 10_000_000
_MAXIMUM_LINE_BYTES = MAXIMUM_IMAGE_BYTES * 4 // 3 + 64


@dataclass(frozen=True)
class _Fact:
    """An image that a question names."""

    location: str
    image_id: int
    caption: str
    url: str


class WikiImagesSource:
    """Source with one pair for each image of WebQA, in the order of the questions; a pair's id is the image's."""

    def __init__(self, files: Files, listing: Listing) -> None:
        """Read the questions and the index.

        Args:
            files: The folder.
            listing: Content of the folder.

        Raises:
            InvalidArgument: A file is missing or not in WebQA's format.
        """
        self._files = files
        try:
            with files.open(QUESTIONS) as file:
                self._facts = list(_facts(json.load(file)))
            with files.open(INDEX) as file:
                self._line_offsets = [int(line) for line in file.read().split()]
            files.stamp(IMAGES)
            self._others = list(listing.left_over({QUESTIONS, INDEX, IMAGES}, "not in the questions"))
        except RejectedError as error:
            raise InvalidArgument(
                f"{files.address} needs {QUESTIONS}, {IMAGES} and {INDEX} of WebQA: {error}", field="source"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidArgument(
                f"{QUESTIONS} or {INDEX} is not in WebQA's format: {error!r}", field="source"
            ) from error

    def identity(self) -> Iterator[str]:
        """Return the three files with their stamps."""
        for name in (QUESTIONS, INDEX, IMAGES):
            yield f"{name} {self._files.stamp(name)}"

    def size(self) -> int:
        """Return the number of images that the questions name."""
        return len(self._facts)

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        """Yield every image that a question names."""
        try:
            with self._files.open(IMAGES) as file:
                for fact in islice(self._facts, skip, None):
                    yield self._entry(file, fact)
        except RejectedError as error:
            yield Rejected(IMAGES, error.reason, error.detail)

    def left_over(self) -> Iterator[Rejected]:
        """Yield images that no question names, and other files."""
        named = {fact.image_id % _LINES for fact in self._facts}
        for line in range(len(self._line_offsets)):
            if line not in named:
                yield Rejected(f"{IMAGES}:{line + 1}", "no caption", "no question names the image")
        yield from self._others

    def _entry(self, file: BinaryIO, fact: _Fact) -> SourcePair | Rejected:
        try:
            if reason := reason_against(fact.caption):
                raise RejectedError(reason, fact.caption[:200])
            return SourcePair(
                fact.location, str(fact.image_id), fact.caption, self._image(file, fact.image_id), fact.url
            )
        except RejectedError as error:
            return Rejected(fact.location, error.reason, error.detail)

    def _image(self, file: BinaryIO, image_id: int) -> bytes:
        line = image_id % _LINES
        if line >= len(self._line_offsets):
            raise RejectedError("no image", f"{INDEX} has no line {line} for image {image_id}")
        try:
            file.seek(self._line_offsets[line])
            content = file.readline(_MAXIMUM_LINE_BYTES + 1)
        except (OSError, ValueError, OverflowError) as error:
            raise RejectedError("broken index", f"line {line}: {error}") from error
        if len(content) > _MAXIMUM_LINE_BYTES:
            raise RejectedError("image file too large", f"image {image_id}")
        name, _, encoded = content.rstrip(b"\r\n").partition(b"\t")
        if name != str(image_id).encode():
            found = name[:40].decode(errors="backslashreplace")
            raise RejectedError("broken index", f"it points to {found!r} instead of image {image_id}")
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise RejectedError("broken image", f"not base64: {error}") from error


def _facts(questions: dict[str, dict[str, list[dict[str, object]]]]) -> Iterator[_Fact]:
    """Yield each image that the questions name once, with its first caption."""
    seen = set[int]()
    for question_id, question in questions.items():
        for part in ("img_posFacts", "img_negFacts"):
            for position, fact in enumerate(question.get(part) or ()):
                image_id = int(str(fact["image_id"]))
                if image_id not in seen:
                    seen.add(image_id)
                    caption = " ".join(fact["caption"].split()) if isinstance(fact["caption"], str) else ""
                    location = f"{QUESTIONS}/{question_id}/{part}/{position}"
                    yield _Fact(location, image_id, caption, str(fact.get("url") or ""))
