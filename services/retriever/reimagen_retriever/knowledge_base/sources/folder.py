"""A folder of pictures: `name.jpg` with `name.txt` beside it, or one list of captions for all.

The list is `captions.csv`, `captions.jsonl`, `metadata.csv` or `metadata.jsonl` at the folder's root, with a column for
the picture's path inside the folder, one for its caption, and if you like its id, source and license. Column names are
read in any case.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, SourcePair
from reimagen_retriever.knowledge_base.picture import MAXIMUM_PICTURE_BYTES
from reimagen_retriever.knowledge_base.sources.rows import (
    ID_COLUMNS,
    LICENSE_COLUMNS,
    SOURCE_COLUMNS,
    TEXT_COLUMNS,
    first,
    lower_columns,
)

LISTS = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")
_PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_PATH_COLUMNS = ("image", "file", "file_name", "filename", "path")


class FolderSource:
    """Pairs of a folder; a pair's id is its picture's path without the suffix, unless a list gives one."""

    def __init__(self, folder: Path) -> None:
        """Looks for the list, else for pictures.

        Raises:
            InvalidArgument: the folder holds neither.
        """
        self._folder = folder.resolve()
        self._list = next((self._folder / name for name in LISTS if (self._folder / name).is_file()), None)
        self._pictures: list[Path] = []
        if not self._list:
            self._pictures = sorted(
                path for path in self._folder.rglob("*") if path.suffix.lower() in _PICTURE_SUFFIXES and path.is_file()
            )
            if not self._pictures:
                raise InvalidArgument(
                    f"{folder} holds no *.tar, no {' or '.join(LISTS)}, and no PNG, JPEG or WebP picture",
                    field="source",
                )

    def size(self) -> int:
        """How many pictures, or lines of the list, there are."""
        if not self._list:
            return len(self._pictures)
        with self._list.open("rb") as file:
            lines = sum(1 for _ in file)
        return lines - 1 if self._list.suffix == ".csv" else lines

    def entries(self) -> Iterator[SourcePair | Rejected]:
        """Every picture in the order of the names, or every line of the list in its order."""
        if not self._list:
            rows = self._pictures_with_text()
        elif self._list.suffix == ".csv":
            rows = self._csv_rows(self._list)
        else:
            rows = self._json_rows(self._list)
        for place, row in rows:
            try:
                yield self._pair(place, row)
            except RejectedError as error:
                yield Rejected(place, error.reason, error.detail)

    def _pictures_with_text(self) -> Iterator[tuple[str, Mapping[str, str] | RejectedError]]:
        for picture in self._pictures:
            name = str(picture.relative_to(self._folder))
            caption = picture.with_suffix(".txt")
            try:
                yield name, {"image": name, "text": caption.read_text(encoding="utf-8-sig")}
            except FileNotFoundError:
                yield name, RejectedError("no caption", f"there is no {caption.name} beside it")
            except UnicodeDecodeError:
                yield name, RejectedError("bad characters", f"{caption.name} is not UTF-8")
            except OSError as error:
                yield name, RejectedError("unreadable file", f"{caption.name}: {error.strerror}")

    # Bytes that are no UTF-8 become surrogates, which the check of the caption refuses for that line alone.

    @staticmethod
    def _csv_rows(path: Path) -> Iterator[tuple[str, Mapping[str, str] | RejectedError]]:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            while True:
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield f"{path.name}:{reader.line_num}", RejectedError("broken line", str(error))
                else:
                    yield f"{path.name}:{reader.line_num}", lower_columns(row)

    @staticmethod
    def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, str] | RejectedError]]:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield f"{path.name}:{number}", RejectedError("broken line", str(error))
                    continue
                if isinstance(row, dict):
                    yield f"{path.name}:{number}", lower_columns(row)
                else:
                    yield f"{path.name}:{number}", RejectedError("broken line", "not a JSON object")

    def _pair(self, place: str, row: Mapping[str, str] | RejectedError) -> SourcePair:
        if isinstance(row, RejectedError):
            raise row
        name = first(row, _PATH_COLUMNS)
        if not name:
            raise RejectedError("no picture", f"none of the columns {', '.join(_PATH_COLUMNS)} is filled")
        image = self._read(name)
        return SourcePair(
            place=place,
            id=first(row, ID_COLUMNS) or str(Path(name).with_suffix("")),
            text=first(row, TEXT_COLUMNS),
            image=image,
            source=first(row, SOURCE_COLUMNS),
            license=first(row, LICENSE_COLUMNS),
        )

    def _read(self, name: str) -> bytes:
        try:
            path = (self._folder / name).resolve()
            if not path.is_relative_to(self._folder):
                raise RejectedError("path outside the source", repr(name))
            if path.exists() and not path.is_file():
                raise RejectedError("unreadable file", f"{name!r} is not a regular file")
            with path.open("rb") as file:
                # One byte over the limit is enough to be refused for it.
                return file.read(MAXIMUM_PICTURE_BYTES + 1)
        except OSError as error:
            raise RejectedError("unreadable file", f"{name!r}: {error.strerror}") from error
        except RejectedError:
            raise
        except ValueError as error:  # A null byte, or a surrogate without its other half.
            raise RejectedError("bad characters", f"{name!r} is no file name") from error
