"""Write the index, for builds and live changes.

Ids and captions are indexed like in Anserini's IndexCollection, so that scores and the order of ties match Pyserini's.
The other fields are for filters.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from reimagen_common.errors import Unavailable
from reimagen_retriever.index.analysis import lucene_analyzer
from reimagen_retriever.index.jvm import cast, in_java, java_class, start_jvm
from reimagen_retriever.index.records import origin_and_rest, record
from reimagen_retriever.knowledge_base.analysis import Analysis
from reimagen_retriever.knowledge_base.pair import StoredPair

UNSAFE_FROM = 0.5
"""Minimum probability of being unsafe at which safe searches leave out an image."""
_BUFFER_MEGABYTES = 64.0
_EXACT = ("license", "duplicate_of", "unsafe")
_SHARED = ("origin", "license")


class IndexWriter:
    """A writer that adds, replaces and removes pairs. Changes become visible and durable only at `commit`.

    Only one thread at a time may use it. After an error it must be closed. A new writer continues from the last commit.

    Args:
        folder: The folder of the index. It is created if it does not exist.
        analysis: The analysis of the base.

    Raises:
        Unavailable: Lucene cannot write to the folder. All methods raise this too.
    """

    @in_java
    def __init__(self, folder: Path, analysis: Analysis | None = None) -> None:
        start_jvm()
        self._folder = folder
        analysis = analysis or Analysis()
        config = java_class("org.apache.lucene.index.IndexWriterConfig")(lucene_analyzer(analysis.language))
        config.setSimilarity(java_class("org.apache.lucene.search.similarities.BM25Similarity")())
        config.setRAMBufferSizeMB(_BUFFER_MEGABYTES)
        config.setCommitOnClose(False)
        # A commit syncs every file of the index, including old ones. Compound files reduce them from fifteen to three
        # per segment.
        config.getMergePolicy().setNoCFSRatio(1.0)
        path = java_class("java.nio.file.Paths").get(str(folder))
        with self._errors():
            directory = java_class("org.apache.lucene.store.FSDirectory").open(path)
            self._writer = java_class("org.apache.lucene.index.IndexWriter")(directory, config)
        self._term = java_class("org.apache.lucene.index.Term")
        self._term_query = java_class("org.apache.lucene.search.TermQuery")
        self._document = _Document(analysis)

    @in_java
    def add(self, pair: StoredPair) -> None:
        """Append a pair whose id is known to be new, in half the time of `put`."""
        with self._errors():
            self._writer.addDocument(self._document.of(pair))

    @in_java
    def put(self, pair: StoredPair) -> None:
        """Add a pair, replacing the pair with the same id if there is one."""
        with self._errors():
            self._writer.updateDocument(self._term("id", pair.id), self._document.of(pair))

    @in_java
    def remove(self, identifier: str) -> None:
        """Remove the pair with an id, if there is one."""
        with self._errors():
            # The overload that takes terms fails in pyjnius.
            self._writer.deleteDocuments(self._term_query(self._term("id", identifier)))

    @in_java
    def merge(self) -> None:
        """Merge all segments into one, because each segment adds to the time of a search.

        For a complete index only: it takes seconds for a million pairs, and temporarily doubles the disk space.
        """
        with self._errors():
            self._writer.forceMerge(1)

    def commit(self, notes: Mapping[str, str]) -> None:
        """Make all changes since the last commit visible and durable in one atomic step, with these notes.

        Searches run during the commit. This is the only Java call without the lock of `in_java`, which is safe because
        only this thread uses Lucene's writers and their methods.
        """
        self._set_notes(notes)
        with self._errors():
            self._writer.commit()

    @in_java
    def close(self) -> None:
        """Release the folder. Uncommitted changes are lost."""
        with self._errors():
            self._writer.rollback()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @in_java
    def _set_notes(self, notes: Mapping[str, str]) -> None:
        data = java_class("java.util.HashMap")()
        for name, value in notes.items():
            data.put(name, value)
        with self._errors():
            self._writer.setLiveCommitData(data.entrySet())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from jnius import JavaException

        try:
            yield
        except JavaException as error:
            raise Unavailable(f"Lucene cannot write to {self._folder}: {self._reason(error)}") from error

    @in_java
    def _reason(self, error: Any) -> str:
        """Return the cause of an error. If a background merge failed, later errors of Lucene do not contain it."""
        tragedy = self._writer.getTragicException() if hasattr(self, "_writer") else None
        return str((tragedy.getMessage() if tragedy else None) or error.innermessage or error)


class _Document:
    """The Java document of a writer. Filling its fields takes a tenth of the time of creating them."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        field, string_field = (java_class(f"org.apache.lucene.document.{name}") for name in ("Field", "StringField"))
        stored, not_stored = (java_class("org.apache.lucene.document.Field$Store").valueOf(it) for it in ("YES", "NO"))
        kind = java_class("org.apache.lucene.document.FieldType")()
        kind.setIndexOptions(java_class("org.apache.lucene.index.IndexOptions").DOCS_AND_FREQS)
        text = cast("java.lang.CharSequence", java_class("java.lang.String")("a"))
        self._id = string_field("id", "a", stored)
        values = java_class("org.apache.lucene.document.BinaryDocValuesField")
        some_bytes = java_class("org.apache.lucene.util.BytesRef")(b"a")
        self._id_for_order = values("id", some_bytes)
        self._contents = field("contents", text, kind)
        # Not a stored field: those are in compressed blocks and take ten times as long to read.
        self._record = values("record", some_bytes)
        shared = java_class("org.apache.lucene.document.SortedDocValuesField")
        self._shared = {name: shared(name, some_bytes) for name in _SHARED}
        self._side = java_class("org.apache.lucene.document.IntPoint")("side", 1)
        self._exact = {name: string_field(name, "", not_stored) for name in _EXACT}
        self._exact_values = dict.fromkeys(_EXACT, "")
        self._document = java_class("org.apache.lucene.document.Document")()
        fields = (self._id, self._id_for_order, self._contents, self._record, self._side)
        for each in (*fields, *self._shared.values(), *self._exact.values()):
            self._document.add(each)

    def of(self, pair: StoredPair) -> Any:
        """Return the document, filled with a pair."""
        self._id.setStringValue(pair.id)
        self._id_for_order.setBytesValue(pair.id.encode())
        self._contents.setStringValue(self._analysis.normalized(pair.caption))
        self._record.setBytesValue(record(pair))
        self._shared["origin"].setBytesValue(origin_and_rest(pair.source)[0].encode())
        self._shared["license"].setBytesValue(pair.license.encode())
        self._side.setIntValue(min(pair.width, pair.height))
        unsafe = "1" if (pair.unsafe or 0) >= UNSAFE_FROM else ""
        for name, value in zip(_EXACT, (pair.license, pair.duplicate_of, unsafe), strict=True):
            if value != self._exact_values[name]:
                self._exact[name].setStringValue(value)
                self._exact_values[name] = value
        return self._document
