"""The pairs of an index, or of several indexes that are searched as one."""

import random
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from reimagen_retriever.index.filters import Filters, any_of, filtered
from reimagen_retriever.index.in_bulk import Documents, Ranking, as_interface, documents, java_type
from reimagen_retriever.index.jvm import cast, in_java, java_class, start_jvm
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.pair import StoredPair
from reimagen_retriever.knowledge_base.union import in_part

_CACHED_PAIRS = 10_000
_AT_ONCE = 1_000
_TRIES = 8
_READER = "org.apache.lucene.index.IndexReader"


class PairIndex:
    """A reader of the pairs of an index by document number, id or filter. Safe to use from many threads."""

    @in_java
    def __init__(self, folder: Path) -> None:
        """Open the last commit of an index.

        Raises:
            DamagedError: Lucene cannot read the index.
        """
        start_jvm()
        self._folder = folder
        self._duplicates: Mapping[str, str] = {}
        self._term = java_class("org.apache.lucene.index.Term")
        self._term_query = java_class("org.apache.lucene.search.TermQuery")
        with self._errors():
            directory = java_class("org.apache.lucene.store.FSDirectory")
            path = java_class("java.nio.file.Paths").get(str(folder))
            self._use([java_class("org.apache.lucene.index.DirectoryReader").open(directory.open(path))])

    @in_java
    def refreshed(self) -> Self | None:
        """Return the index at the last commit, or None if this index is already there. The caller closes both.

        Raises:
            DamagedError: Lucene cannot read the newer commit.
        """
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

    @in_java
    def in_order(self) -> list[int]:
        """Return the numbers of all documents, for `pair`, in the order of their pairs in the shards."""
        live = java_class("org.apache.lucene.index.MultiBits").getLiveDocs(self._reader)
        present = [number for number in range(self._reader.maxDoc()) if live is None or live.get(number)]
        offsets = []
        for start in range(0, len(present), _AT_ONCE):
            numbers = present[start : start + _AT_ONCE]
            offsets += [(pair.shard, pair.offset, n) for n, pair in zip(numbers, self._stored(numbers), strict=True)]
        return [document for _, _, document in sorted(offsets)]

    @in_java
    def read(self, documents: Sequence[int]) -> list[StoredPair]:
        """Return the pairs of document numbers, in their order, several times faster than one by one."""
        starts = range(0, len(documents), _AT_ONCE)
        return [pair for start in starts for pair in self._stored(documents[start : start + _AT_ONCE])]

    @in_java
    def pair(self, document: int) -> StoredPair:
        """Return the pair of a document number."""
        return self._pair(document)

    @in_java
    def get(self, identifier: str) -> StoredPair | None:
        """Return the pair with an id, or None."""
        document = self._document(identifier)
        return None if document is None else self._stored([document])[0]

    @in_java
    def following(self, identifier: str, limit: int) -> list[StoredPair]:
        """Return the first `limit` pairs whose ids come after an id, in byte order."""
        terms = java_class("org.apache.lucene.index.MultiTerms").getTerms(self._reader, "id")
        if terms is None:
            return []
        ids = cast("org.apache.lucene.index.TermsEnum", terms.iterator())
        # The enumeration stands at the first id that is not before the given one, or at its end.
        at_end = ids.seekCeil(self._term("id", identifier).bytes()).toString() == "END"
        term = None if at_end else ids.term()
        found: list[int] = []
        while term is not None and len(found) < limit:
            text = term.utf8ToString()
            # The index contains ids of removed pairs until its segments are merged.
            document = None if text == identifier else self._document(text)
            if document is not None:
                found.append(document)
            term = ids.next()
        return self._stored(found) if found else []

    @in_java
    def sample(self, limit: int) -> list[StoredPair]:
        """Return up to `limit` random pairs, fewer if much of the index was removed."""
        live = java_class("org.apache.lucene.index.MultiBits").getLiveDocs(self._reader)
        count = self._reader.maxDoc()
        # Samples are for people to look at, not for secrets.
        tried = random.sample(range(count), min(count, _TRIES * limit))
        found = [number for number in tried if live is None or live.get(number)][:limit]
        return self._stored(found) if found else []

    @in_java
    def pairs_of(self, ids: Sequence[str], filters: Filters) -> dict[str, StoredPair]:
        """Return by id the pairs that exist and pass."""
        if not ids:
            return {}
        found = documents(self._searcher.search(filtered(any_of("id", ids), filters), len(ids)))
        return {pair.id: pair for pair in self._stored(found)}

    @in_java
    def duplicates_of(self, identifier: str) -> list[StoredPair]:
        """Return the pairs that are marked as near-duplicates of a pair, in no particular order."""
        marked = any_of("duplicate_of", [identifier])
        count = self._searcher.count(marked)
        return self._stored(documents(self._searcher.search(marked, count))) if count else []

    @in_java
    def ids_of(self, filters: Filters, maximum: int) -> list[str] | None:
        """Return the ids of all pairs that pass, in no particular order, or None if there are more than `maximum`."""
        everything = java_class("org.apache.lucene.search.MatchAllDocsQuery")()
        found = documents(self._searcher.search(filtered(everything, filters), maximum + 1))
        return None if len(found) > maximum else [pair.id for pair in self._stored(found)]

    @in_java
    def shared_id(self) -> str | None:
        """Return an id that two of the united indexes share, or None. Takes about a second for a million pairs."""
        if _distinct_ids(self._reader) == sum(map(_distinct_ids, self._commits)):
            return None
        # The counts also differ if one index has an id and another still contains its removed pair.
        terms = java_class("org.apache.lucene.index.MultiTerms").getTerms(self._reader, "id").iterator()
        while (term := terms.next()) is not None:
            if terms.docFreq() > 1:
                identifier = term.utf8ToString()
                if self._searcher.count(self._term_query(self._term("id", identifier))) > 1:
                    return str(identifier)
        return None

    @in_java
    def files(self) -> list[str]:
        """Return the names of all files of this commit of the index, which never change."""
        (reader,) = self._commits
        return list(reader.getIndexCommit().getFileNames().toArray())

    @in_java
    def close(self) -> None:
        """Close the files of the index. Nothing can be read afterwards."""
        self._reader.close()

    def _over(self, commits: Sequence[Any]) -> Self:
        other = copy(self)
        other._use(commits)
        return other

    def _use(self, commits: Sequence[Any]) -> None:
        """Switch to other commits and drop everything that is cached for the current ones."""
        self._commits = commits
        self.united_of = len(commits)
        """Number of indexes. With only one, pairs keep the original names of their shards."""
        if self.united_of == 1:
            self._reader = cast(_READER, commits[0])
        else:
            readers = (cast(_READER, commit) for commit in commits)
            self._reader = cast(_READER, java_class("org.apache.lucene.index.MultiReader")(*readers))
        self._starts = [0, *accumulate(commit.maxDoc() for commit in commits)]
        self._searcher = java_class("org.apache.lucene.search.IndexSearcher")(self._reader)
        self._documents = Documents(self._reader, "raw")
        self._cached: dict[int, StoredPair | str] = {}
        self.pairs: int = self._reader.numDocs()
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

    def _document(self, identifier: str) -> int | None:
        found = documents(self._searcher.search(self._term_query(self._term("id", identifier)), 1))
        return found[0] if found else None

    def _pair(self, document: int) -> StoredPair:
        cached = self._cached.get(document)
        if isinstance(cached, StoredPair):
            return cached
        (text,) = self._documents.read([document]) if cached is None else [cached]
        self._make_room()
        pair = self._cached[document] = self._parsed(document, text)
        return pair

    def _found(self, top_docs: Any) -> Ranking:
        """Return Lucene's ranking, sorted by score first. Reads all pairs at once and caches them for `_pair`."""
        found, texts = self._documents.found(top_docs)
        self._make_room()
        for (document, _), text in zip(found, texts, strict=True):
            self._cached.setdefault(document, text)
        return found

    def _make_room(self) -> None:
        # Clear everything at once: finding the first key of a dict is slow after many deletions.
        if len(self._cached) >= _CACHED_PAIRS:
            self._cached.clear()

    def _stored(self, documents: Sequence[int]) -> list[StoredPair]:
        texts = self._documents.read(documents) if documents else []
        return [self._parsed(document, text) for document, text in zip(documents, texts, strict=True)]

    def _parsed(self, document: int, text: str) -> StoredPair:
        pair = StoredPair.model_validate_json(text)
        if self.united_of == 1:
            return pair
        part = bisect_right(self._starts, document) - 1
        original = self._duplicates.get(pair.duplicate_of or pair.id, pair.duplicate_of)
        return pair.model_copy(update={"shard": in_part(part, pair.shard), "duplicate_of": original})


def _distinct_ids(reader: Any) -> int:
    """Return the number of ids. Java counts them, because a call from Python per id would dominate the time."""
    terms = java_class("org.apache.lucene.index.MultiTerms").getTerms(cast(_READER, reader), "id")
    if terms is None:
        return 0
    lookup = java_class("java.lang.invoke.MethodHandles").publicLookup()
    kind = java_class("java.lang.invoke.MethodType")
    next_term = lookup.findVirtual(
        java_type("org.apache.lucene.index.TermsEnum"),
        "next",
        kind.methodType(java_type("org.apache.lucene.util.BytesRef")),
    ).bindTo(cast("java.lang.Object", terms.iterator()))
    not_null = lookup.findStatic(
        java_type("java.util.Objects"),
        "nonNull",
        kind.methodType(java_class("java.lang.Boolean").TYPE, java_type("java.lang.Object")),
    )
    following = as_interface("java.util.function.Supplier", next_term)
    there = as_interface("java.util.function.Predicate", not_null)
    return int(java_class("java.util.stream.Stream").generate(following).takeWhile(there).count())
