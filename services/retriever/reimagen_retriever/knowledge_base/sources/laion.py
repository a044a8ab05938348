"""LAION's metadata, joined with images that img2dataset downloaded without it.

All versions are supported: `URL TEXT NSFW similarity LICENSE SAMPLE_ID` (LAION-400M), with `hash punsafe pwatermark
aesthetic LANGUAGE` (LAION-5B's joined sets), in any letter case. A sample is matched to its row by `SAMPLE_ID` if
img2dataset saved that column, unless the row has another URL and another caption: then the id is from another
collection. Otherwise it is matched by `url`, and if several rows have that URL, by the caption too.

A row takes about 55 bytes of memory, and twice that while the files are read: digests of URL and caption, the measures,
and the row's ranks by URL and by id.
"""

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.pair import RejectedError
from reimagen_retriever.knowledge_base.sources.files import Files, locate
from reimagen_retriever.knowledge_base.sources.rows import MEASURES, TEXT_COLUMNS, Row, first, number, unsafe
from reimagen_retriever.knowledge_base.sources.tables import parquet_rows

_COLUMNS = frozenset({"url", "sample_id", "license", *TEXT_COLUMNS, *MEASURES})
_UNKNOWN_ID = -1
_STORED_MEASURES = ("punsafe", "pwatermark", "similarity")
_ROW = np.dtype(
    [("url", "u8"), ("text", "u8"), ("id", "i8"), *((name, "f4") for name in _STORED_MEASURES), ("license", "u2")]
)


class LaionMetadata:
    """The rows of LAION's Parquet files, with a lookup by the columns of a downloaded sample."""

    def __init__(self, address: str) -> None:
        """Read the files' columns.

        Raises:
            InvalidArgument: There are no Parquet files, or they are not LAION's.
            Unavailable: The store does not answer.
        """
        self._files, only = locate(address)
        self._names = (
            [only] if only else [name for name in self._files.listing().names if name.lower().endswith(".parquet")]
        )
        self._licenses: dict[str, int] = {"": 0}
        rows = np.fromiter((self._stored(row) for name in self._names for row in _rows(self._files, name)), _ROW)
        if not len(rows):
            raise InvalidArgument(f"{address} has no row of LAION's metadata (*.parquet)", field="metadata")
        # Contiguous copies: `np.searchsorted` on a field of the structured array would copy it on every call.
        self._urls, self._texts, self._ids, self._license = (
            np.ascontiguousarray(rows[name]) for name in ("url", "text", "id", "license")
        )
        self._measures: NDArray[np.float32] = np.stack([rows[name] for name in _STORED_MEASURES])
        del rows
        self._by_url = np.argsort(self._urls, kind="stable")
        self._by_id = np.argsort(self._ids, kind="stable")
        self._license_names = list(self._licenses)

    def identity(self) -> Iterator[str]:
        """Return the files with their stamps."""
        for name in self._names:
            yield f"{self._files.address}/{name} {self._files.stamp(name)}"

    def row_of(self, sample: Row) -> Row:
        """Return the columns of the metadata's row for a sample.

        Raises:
            RejectedError: The metadata has no row for the sample.
        """
        found = self._find(sample)
        if found is None:
            raise RejectedError("not in the metadata", first(sample, ("url",)))
        values = (float(value) for value in self._measures[:, found])
        row: Row = {name: value for name, value in zip(_STORED_MEASURES, values, strict=True) if value == value}
        license_name = self._license_names[self._license[found]]
        return row | {"license": license_name} if license_name else row

    def _find(self, sample: Row) -> int | None:
        identifier = _sample_id(sample)
        if identifier != _UNKNOWN_ID:
            rank = int(np.searchsorted(self._ids, identifier, sorter=self._by_id))
            if rank < len(self._ids) and self._ids[self._by_id[rank]] == identifier:
                found = int(self._by_id[rank])
                if not self._contradicts(found, sample):
                    return found
        url = _digest(first(sample, ("url",)))
        start, stop = (int(np.searchsorted(self._urls, url, side, self._by_url)) for side in ("left", "right"))
        if start == stop:
            return None
        text = _digest(first(sample, TEXT_COLUMNS))
        candidates = self._by_url[start:stop]
        same = candidates[self._texts[candidates] == text]
        return int(same[0] if len(same) else candidates[0])

    def _contradicts(self, found: int, sample: Row) -> bool:
        """Return whether a row with the sample's id is from another collection: both its URL and caption differ."""
        known = ((first(sample, ("url",)), self._urls[found]), (first(sample, TEXT_COLUMNS), self._texts[found]))
        different = [text for text, digest in known if text and digest != _EMPTY_DIGEST and _digest(text) != digest]
        same = [text for text, digest in known if text and _digest(text) == digest]
        return bool(different) and not same

    def _stored(self, row: Row) -> tuple[int, int, int, float, float, float, int]:
        name = first(row, ("license",))
        if len(self._licenses) > np.iinfo(np.uint16).max:
            name = ""
        measures = [unsafe(row), number(row, "pwatermark"), number(row, "similarity")]
        nan_where_unknown = [float("nan") if value is None else value for value in measures]
        return (
            int(_digest(first(row, ("url",)))),
            int(_digest(first(row, TEXT_COLUMNS))),
            _sample_id(row),
            nan_where_unknown[0],
            nan_where_unknown[1],
            nan_where_unknown[2],
            self._licenses.setdefault(name, len(self._licenses)),
        )


def _rows(files: Files, name: str) -> Iterator[Row]:
    try:
        with files.open(name) as file:
            for location, row in parquet_rows(PurePosixPath(name).name, file, _COLUMNS):
                if isinstance(row, RejectedError):
                    raise InvalidArgument(f"{location}: {row}", field="metadata")
                if "url" not in row and "sample_id" not in row:
                    raise InvalidArgument(f"{location} has neither URL nor SAMPLE_ID", field="metadata")
                yield row
    except RejectedError as error:
        raise InvalidArgument(str(error), field="metadata") from error


def _sample_id(row: Row) -> int:
    """Return a sample id, which LAION writes as an integer, or as a float in files where some ids are missing."""
    value = row.get("sample_id")
    try:
        found = int(value) if isinstance(value, int) else int(float(str(value)))
    except (ValueError, OverflowError):
        return _UNKNOWN_ID
    return found if 0 <= found < 2**63 else _UNKNOWN_ID


def _digest(text: str) -> np.uint64:
    data = text.encode("utf-8", "surrogatepass")
    return np.uint64(int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little"))


_EMPTY_DIGEST = _digest("")
