"""A folder of pictures: `name.jpg` with `name.txt` beside it, or lists of captions.

A list is `captions` or `metadata` as `.csv`, `.jsonl` or `.parquet`, with a column for the picture's path, relative to
the list, one for its caption, and if you like its id, source, license and LAION's measures. Column names are read in
any case. That is Hugging Face's imagefolder too: one list in the folder, or one in each split's subfolder.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath

from reimagen_common.errors import InvalidArgument
from reimagen_common.pictures import MAXIMUM_PICTURE_BYTES
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair
from reimagen_retriever.knowledge_base.sources import tables
from reimagen_retriever.knowledge_base.sources.files import Files
from reimagen_retriever.knowledge_base.sources.rows import Row, first, pair_of

LIST_ENDINGS = (".csv", ".jsonl", ".parquet")
_LISTS = frozenset(f"{stem}{ending}" for stem in ("captions", "metadata") for ending in LIST_ENDINGS)
_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_PATH_COLUMNS = ("image", "file", "file_name", "filename", "path", "image_file_name")
_MAXIMUM_CAPTION_BYTES = 1024 * 1024


class FolderSource:
    """Pairs of a folder; a pair's id is its picture's path without the suffix, unless a list gives one."""

    def __init__(self, files: Files, names: list[str], only: str = "") -> None:
        """Looks for lists, else for pictures.

        Args:
            files: the folder.
            names: all files in it.
            only: a list to read in place of those that are found.

        Raises:
            InvalidArgument: the folder holds neither.
        """
        self._files = files
        lists = [name for name in names if PurePosixPath(name).name in _LISTS]
        at_root = [name for name in lists if "/" not in name]
        self._lists = [only] if only else at_root[:1] or lists
        self._pictures: list[str] = []
        self._texts = frozenset(name for name in names if name.endswith(".txt"))
        if not self._lists:
            self._pictures = [name for name in names if name.lower().endswith(_PICTURE_SUFFIXES)]
            if not self._pictures:
                raise InvalidArgument(
                    f"{files.address} holds no *.tar, no {' or '.join(sorted(_LISTS))}, no imgs.tsv, "
                    "no annotations/captions_*.json, and no PNG, JPEG or WebP picture",
                    field="source",
                )

    def identity(self) -> Iterator[str]:
        """The lists, or the pictures, with their stamps."""
        for name in self._lists or self._pictures:
            yield f"{name} {self._files.stamp(name)}"

    def size(self) -> int:
        """How many pictures, or rows of the lists, there are."""
        return len(self._pictures) or sum(tables.count(self._files, name) for name in self._lists)

    def entries(self, skip: int = 0) -> Iterator[SourcePair | Rejected]:
        """Every picture in the order of the names, or every row of the lists in their order."""
        rows = self._listed() if self._lists else self._beside()
        for place, row, folder in islice(rows, skip, None):
            try:
                yield self._pair(place, row, folder)
            except RejectedError as error:
                yield Rejected(place, error.reason, error.detail)

    def _listed(self) -> Iterator[tuple[str, Row | RejectedError, str]]:
        for name in self._lists:
            folder = name.rpartition("/")[0]
            for place, row in tables.rows(self._files, name):
                yield place, row, folder

    def _beside(self) -> Iterator[tuple[str, Row | RejectedError, str]]:
        for picture in self._pictures:
            yield picture, {"image": picture}, ""

    def _pair(self, place: str, row: Row | RejectedError, folder: str) -> SourcePair:
        if isinstance(row, RejectedError):
            raise row
        name = first(row, _PATH_COLUMNS)
        if not name:
            raise RejectedError("no picture", f"none of the columns {', '.join(_PATH_COLUMNS)} is filled")
        if folder and not name.startswith("/"):
            name = f"{folder}/{name}"
        text = "" if self._lists else self._text_beside(name)
        image = self._files.read(name, MAXIMUM_PICTURE_BYTES)
        return pair_of(row, place=place, identifier=str(PurePosixPath(name).with_suffix("")), image=image, text=text)

    def _text_beside(self, picture: str) -> str:
        name = str(PurePosixPath(picture).with_suffix(".txt"))
        if name not in self._texts:
            raise RejectedError("no caption", f"there is no {PurePosixPath(name).name} beside it")
        try:
            return self._files.read(name, _MAXIMUM_CAPTION_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RejectedError("bad characters", f"{name} is not UTF-8") from error
