"""The pairs of an index, or of several that are searched as one."""

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

_KEPT_PAIRS = 10_000
_AT_ONCE = 1_000
_READER = "org.apache.lucene.index.IndexReader"


class PairIndex:
    """Reads pairs out of an index by their numbers, their ids or filters; safe to use from many threads."""

    @in_java
    def __init__(self, folder: Path) -> None:
        """Opens the last commit of an index.

        Raises:
            DamagedError: Lucene cannot read what is in the folder.
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
        """The index as the last commit has it, or None if that is this one. Both are to be closed.

        Raises:
            DamagedError: Lucene cannot read what has come since.
        """
        (reader,) = self._commits
        with self._errors():
            newer = java_class("org.apache.lucene.index.DirectoryReader").openIfChanged(reader)
            return None if newer is None else self._over([newer])

    @in_java
    def united(self, others: Sequence[Self], duplicates: Mapping[str, str] | None = None) -> Self:
        """This index and others of the same analysis as one, whose statistics are those of all their pairs together.

        Its pairs' shards are named as `in_part` has it. Closing it closes them all.

        Args:
            others: The other indexes.
            duplicates: See `Union`: these are marked as are those that are near-duplicates in their own base.
        """
        union = self._over([reader for index in (self, *others) for reader in index._commits])
        union._duplicates = duplicates or {}
        return union

    @in_java
    def in_order(self) -> list[int]:
        """The numbers of all documents, for `pair`, in the order in which their pairs lie in the shards."""
        live = java_class("org.apache.lucene.index.MultiBits").getLiveDocs(self._reader)
        there = [number for number in range(self._reader.maxDoc()) if live is None or live.get(number)]
        places = []
        for start in range(0, len(there), _AT_ONCE):
            numbers = there[start : start + _AT_ONCE]
            places += [(pair.shard, pair.offset, n) for n, pair in zip(numbers, self._stored(numbers), strict=True)]
        return [document for _, _, document in sorted(places)]

    @in_java
    def read(self, documents: Sequence[int]) -> list[StoredPair]:
        """The pairs of many documents' numbers, in their order, in several times less time than one by one."""
        starts = range(0, len(documents), _AT_ONCE)
        return [pair for start in starts for pair in self._stored(documents[start : start + _AT_ONCE])]

    @in_java
    def pair(self, document: int) -> StoredPair:
        """The pair of a document's number."""
        return self._pair(document)

    @in_java
    def get(self, identifier: str) -> StoredPair | None:
        """The pair of that id, if there is one."""
        document = self._document(identifier)
        return None if document is None else self._stored([document])[0]

    @in_java
    def pairs_of(self, ids: Sequence[str], filters: Filters) -> dict[str, StoredPair]:
        """By their ids, those of the pairs that are there and pass."""
        if not ids:
            return {}
        found = documents(self._searcher.search(filtered(any_of("id", ids), filters), len(ids)))
        return {pair.id: pair for pair in self._stored(found)}

    @in_java
    def duplicates_of(self, identifier: str) -> list[StoredPair]:
        """The pairs that are marked as near-duplicates of one, in no particular order."""
        marked = any_of("duplicate_of", [identifier])
        count = self._searcher.count(marked)
        return self._stored(documents(self._searcher.search(marked, count))) if count else []

    @in_java
    def ids_of(self, filters: Filters, most: int) -> list[str] | None:
        """The ids of all pairs that pass, in no particular order; None if they are more than so many."""
        everything = java_class("org.apache.lucene.search.MatchAllDocsQuery")()
        found = documents(self._searcher.search(filtered(everything, filters), most + 1))
        return None if len(found) > most else [pair.id for pair in self._stored(found)]

    @in_java
    def shared_id(self) -> str | None:
        """An id that pairs of two of the united indexes have, if there is one; about a second for a million pairs."""
        if _distinct_ids(self._reader) == sum(map(_distinct_ids, self._commits)):
            return None
        # Or an id is of a pair that was removed, and of another one elsewhere.
        terms = java_class("org.apache.lucene.index.MultiTerms").getTerms(self._reader, "id").iterator()
        while (term := terms.next()) is not None:
            if terms.docFreq() > 1:
                identifier = term.utf8ToString()
                if self._searcher.count(self._term_query(self._term("id", identifier))) > 1:
                    return str(identifier)
        return None

    @in_java
    def files(self) -> list[str]:
        """The names of all files of this view of the index, which never change."""
        (reader,) = self._commits
        return list(reader.getIndexCommit().getFileNames().toArray())

    @in_java
    def close(self) -> None:
        """Lets go of the index's files; nothing can be read afterwards."""
        self._reader.close()

    def _over(self, commits: Sequence[Any]) -> Self:
        other = copy(self)
        other._use(commits)
        return other

    def _use(self, commits: Sequence[Any]) -> None:
        """Goes over to other commits; what is kept of the present ones may not fit them."""
        self._commits = commits
        self.united_of = len(commits)
        """How many indexes these are; of one alone, pairs tell their shards as they are."""
        if self.united_of == 1:
            self._reader = cast(_READER, commits[0])
        else:
            readers = (cast(_READER, commit) for commit in commits)
            self._reader = cast(_READER, java_class("org.apache.lucene.index.MultiReader")(*readers))
        self._starts = [0, *accumulate(commit.maxDoc() for commit in commits)]
        self._searcher = java_class("org.apache.lucene.search.IndexSearcher")(self._reader)
        self._documents = Documents(self._reader, "raw")
        self._kept: dict[int, StoredPair | str] = {}
        self.pairs: int = self._reader.numDocs()
        self.notes: dict[str, str] = {}
        """Of the commit; of several together there are none."""
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
        kept = self._kept.get(document)
        if isinstance(kept, StoredPair):
            return kept
        (text,) = self._documents.read([document]) if kept is None else [kept]
        self._make_room()
        pair = self._kept[document] = self._parsed(document, text)
        return pair

    def _found(self, top_docs: Any) -> Ranking:
        """What Lucene found, sorted by score first; all its pairs are read at once, so that `_pair` need not."""
        found, texts = self._documents.found(top_docs)
        self._make_room()
        for (document, _), text in zip(found, texts, strict=True):
            self._kept.setdefault(document, text)
        return found

    def _make_room(self) -> None:
        # All at once: a dict looks for its first key past all those that were deleted before.
        if len(self._kept) >= _KEPT_PAIRS:
            self._kept.clear()

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
    """How many ids there are; counted by Java alone, as a call from Python takes longer than all else."""
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
