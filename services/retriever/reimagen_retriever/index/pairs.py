"""The pairs of an index, or of several indexes that are searched as one."""

import random
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from reimagen_retriever.index.filters import Filters
from reimagen_retriever.index.jvm import in_java, java_class, start_jvm
from reimagen_retriever.index.lucene import Document, Lucene
from reimagen_retriever.index.records import pair_of
from reimagen_retriever.index.version import refuse_newer
from reimagen_retriever.knowledge_base.analysis import Analysis
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.pair import StoredPair
from reimagen_retriever.knowledge_base.union import in_part

_CACHED_PAIRS = 10_000
_AT_ONCE = 1_000
_TRIES = 8


class PairIndex:
    """A reader of the pairs of an index by document number, id or filter. Safe to use from many threads."""

    @in_java
    def __init__(self, folder: Path, analysis: Analysis | None = None) -> None:
        """Open the last commit of an index that was written with this analysis.

        Raises:
            NewerLuceneError: A newer Lucene wrote the index.
            DamagedError: Lucene cannot read the index.
        """
        start_jvm()
        refuse_newer(folder)
        self.analysis = analysis or Analysis()
        self._folder = folder
        self._duplicates: Mapping[str, str] = {}
        with self._errors():
            directory = java_class("org.apache.lucene.store.FSDirectory")
            path = java_class("java.nio.file.Paths").get(str(folder))
            self._use([java_class("org.apache.lucene.index.DirectoryReader").open(directory.open(path))])

    @in_java
    def refreshed(self) -> Self | None:
        """Return the index at the last commit, or None if this index is already there. The caller closes both.

        Raises:
            NewerLuceneError: A newer Lucene wrote the newer commit.
            DamagedError: Lucene cannot read the newer commit.
        """
        refuse_newer(self._folder)
        (reader,) = self._commits
        with self._errors():
            newer = java_class("org.apache.lucene.index.DirectoryReader").openIfChanged(reader)
            return None if newer is None else self._over([newer])

    @in_java
    def united(self, others: Sequence[Self], duplicates: Mapping[str, str] | None = None) -> Self:
        """Return this index and others of the same analysis as one, with the statistics of all their pairs.

        The shards of its pairs are named by `in_part`. Closing it closes all of the indexes.

        Args:
            others: The other indexes.
            duplicates: Near-duplicates across bases, see `Union`. They are marked like near-duplicates in one base.
        """
        union = self._over([reader for index in (self, *others) for reader in index._commits])
        union._duplicates = duplicates or {}
        return union

    def in_order(self) -> list[int]:
        """Return the numbers of all documents, for `pair`, in the order of their pairs in the shards."""
        offsets = []
        for start in range(0, self._end, _AT_ONCE):
            for document in self._lucene.documents(range(start, min(start + _AT_ONCE, self._end))):
                pair = self._parsed(document)
                offsets.append((pair.shard, pair.offset, document.number))
        return [number for _, _, number in sorted(offsets)]

    def read(self, documents: Sequence[int]) -> list[StoredPair]:
        """Return the pairs of document numbers, in their order, several times faster than one by one."""
        starts = range(0, len(documents), _AT_ONCE)
        return [pair for start in starts for pair in self._stored(documents[start : start + _AT_ONCE])]

    def pair(self, document: int) -> StoredPair:
        """Return the pair of a document number."""
        return self._stored([document])[0]

    def get(self, identifier: str) -> StoredPair | None:
        """Return the pair with an id, or None."""
        found = self._lucene.find("id", [identifier], 1)
        return self._parsed(found[0]) if found else None

    def following(self, identifier: str, limit: int) -> list[StoredPair]:
        """Return the first `limit` pairs whose ids come after an id, in byte order."""
        return [self._parsed(document) for document in self._lucene.following(identifier, limit)]

    def sample(self, limit: int) -> list[StoredPair]:
        """Return up to `limit` random pairs, fewer if much of the index was removed."""
        # Samples are for people to look at, not for secrets.
        tried = random.sample(range(self._end), min(self._end, _TRIES * limit))
        return [self._parsed(document) for document in self._lucene.documents(tried, limit)]

    def pairs_of(self, ids: Sequence[str], filters: Filters) -> dict[str, StoredPair]:
        """Return by id the pairs that exist and pass."""
        found = self._lucene.find("id", ids, len(ids), filters) if ids else []
        return {pair.id: pair for pair in map(self._parsed, found)}

    def duplicates_of(self, identifier: str) -> list[StoredPair]:
        """Return the pairs that are marked as near-duplicates of a pair, in no particular order."""
        return [self._parsed(document) for document in self._lucene.find("duplicate_of", [identifier], self.pairs)]

    def ids_of(self, filters: Filters, maximum: int) -> list[str] | None:
        """Return the ids of all pairs that pass, in no particular order, or None if there are more than `maximum`."""
        found = self._lucene.find(None, [], maximum + 1, filters)
        return None if len(found) > maximum else [self._parsed(document).id for document in found]

    def shared_id(self) -> str | None:
        """Return an id that two of the united indexes share, or None. Takes about a second for a million pairs."""
        return self._lucene.shared_id()

    @in_java
    def files(self) -> list[str]:
        """Return the names of all files of this commit of the index, which never change."""
        (reader,) = self._commits
        return list(reader.getIndexCommit().getFileNames().toArray())

    @in_java
    def close(self) -> None:
        """Close the files of the index. Nothing can be read afterwards."""
        for reader in self._commits:
            reader.close()

    def _over(self, commits: Sequence[Any]) -> Self:
        other = copy(self)
        other._use(commits)
        return other

    def _use(self, commits: Sequence[Any]) -> None:
        """Switch to other commits and drop everything that is cached for the current ones."""
        self._commits = commits
        self.united_of = len(commits)
        """Number of indexes. With only one, pairs keep the original names of their shards."""
        self._starts = [0, *accumulate(commit.maxDoc() for commit in commits)]
        self._end = self._starts[-1]
        self._lucene = Lucene(commits, self.analysis)
        self._cached: dict[int, StoredPair] = {}
        self.pairs: int = sum(commit.numDocs() for commit in commits)
        self.notes: dict[str, str] = {}
        """Notes of the commit. Empty for several indexes."""
        if self.united_of == 1:
            notes = commits[0].getIndexCommit().getUserData()
            self.notes = {name: notes.get(name) for name in notes.keySet().toArray()}

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from jnius import JavaException

        try:
            yield
        except JavaException as error:
            raise DamagedError(f"Lucene cannot read {self._folder}: {error.innermessage or error}") from error

    def _pair(self, document: Document) -> StoredPair:
        """Return the pair of a document, which is parsed only once while it is cached."""
        pair = self._cached.get(document.number)
        if pair is None:
            # Clear everything at once: finding the first key of a dict is slow after many deletions.
            if len(self._cached) >= _CACHED_PAIRS:
                self._cached.clear()
            pair = self._cached[document.number] = self._parsed(document)
        return pair

    def _stored(self, documents: Sequence[int]) -> list[StoredPair]:
        return [self._parsed(document) for document in self._lucene.documents(documents)]

    def _parsed(self, document: Document) -> StoredPair:
        pair = pair_of(document.stored)
        if self.united_of == 1:
            return pair
        part = bisect_right(self._starts, document.number) - 1
        original = self._duplicates.get(pair.duplicate_of or pair.id, pair.duplicate_of)
        return pair.model_copy(update={"shard": in_part(part, pair.shard), "duplicate_of": original})
