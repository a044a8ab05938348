"""The search engines: each builds an index of captions, one per line, in a folder, and finds the ten best."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from typing_extensions import override

from reimagen_retriever.index.bm25 import BM25Index, BM25Search
from reimagen_retriever.index.jvm import cast, in_java, java_class, start_jvm
from reimagen_retriever.index.writer import IndexWriter
from reimagen_retriever.knowledge_base.analysis import Analysis
from reimagen_retriever.knowledge_base.pair import StoredPair
from tools.peer import searcher_class

K = 10
PARTS = 4
Ranking = list[tuple[int, float]]
"""Numbers of captions with their scores, best first."""


class Engine(ABC):
    """An engine to compare; an index is built in one process and searched in another."""

    @staticmethod
    @abstractmethod
    def build(captions: Path, folder: Path) -> None:
        """Build the index."""

    @abstractmethod
    def __init__(self, folder: Path) -> None:
        """Open the index."""

    @abstractmethod
    def search(self, query: str) -> object:
        """Search, and return what a caller of this engine gets."""

    @abstractmethod
    def ranking(self, found: Any) -> Ranking:
        """Convert the result of `search` for comparison; this is not timed."""

    def search_on_two_threads(self, queries: Sequence[str]) -> None:
        """Search with the engine's own batch function, or with two concurrent callers if it has none."""
        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(self.search, queries):
                pass


class Ours(Engine):
    """Our `BM25Index.search` as the service calls it; it returns pairs with their scores."""

    @staticmethod
    @override
    def build(captions: Path, folder: Path) -> None:
        with IndexWriter(folder) as writer, captions.open() as lines:
            for number, line in enumerate(lines):
                writer.add(pair(number, line.rstrip("\n")))
            writer.merge()
            writer.commit({})

    def __init__(self, folder: Path) -> None:
        self.index = BM25Index(folder)

    @override
    def search(self, query: str) -> object:
        return self.index.search(query, K, 0.0, "any")

    @override
    def search_on_two_threads(self, queries: Sequence[str]) -> None:
        self.index.search_all([BM25Search(query, K, 0.0, "any") for query in queries])

    @override
    def ranking(self, found: Any) -> Ranking:
        return [(int(hit.pair.id), hit.score) for hit in found]


class United(Ours):
    """Our index as a union of several indexes, each of a part of the captions."""

    @staticmethod
    @override
    def build(captions: Path, folder: Path) -> None:
        with captions.open() as lines:
            texts = list(lines)
        part = -(-len(texts) // PARTS)
        for first in range(0, len(texts), part):
            with IndexWriter(folder / f"{first // part}") as writer:
                for number in range(first, min(first + part, len(texts))):
                    writer.add(pair(number, texts[number].rstrip("\n")))
                writer.merge()
                writer.commit({})

    def __init__(self, folder: Path) -> None:
        first, *others = (BM25Index(folder / f"{part}") for part in range(PARTS))
        self.index = first.united(others)


class BareLucene(Engine):
    """Lucene's part of our search: from terms to `TopDocs`, which Python does not read."""

    build = Ours.build

    def __init__(self, folder: Path) -> None:
        start_jvm()
        analysis = Analysis()
        directory = java_class("org.apache.lucene.store.FSDirectory").open(
            java_class("java.nio.file.Paths").get(str(folder))
        )
        reader = java_class("org.apache.lucene.index.DirectoryReader").open(directory)
        self._searcher = java_class("org.apache.lucene.search.IndexSearcher")(
            cast("org.apache.lucene.index.IndexReader", reader)
        )
        similarity = java_class("org.apache.lucene.search.similarities.BM25Similarity")
        self._searcher.setSimilarity(similarity(analysis.k1, analysis.b))
        self._queries = java_class("io.anserini.search.query.BagOfWordsQueryGenerator")()
        self._whitespace = java_class("org.apache.lucene.analysis.core.WhitespaceAnalyzer")()

    @override
    @in_java
    def search(self, query: str) -> object:
        return self._searcher.search(self._queries.buildQuery("contents", self._whitespace, query), K)

    @override
    def ranking(self, found: Any) -> Ranking:
        stored = self._searcher.storedFields()
        return [(int(stored.document(hit.doc).get("id")), hit.score) for hit in found.scoreDocs]


class Pyserini(Engine):
    """Pyserini's `LuceneSearcher` over an index that Anserini built on two threads."""

    @staticmethod
    @override
    def build(captions: Path, folder: Path) -> None:
        start_jvm()
        documents = folder.with_name(f"{folder.name}-documents")
        documents.mkdir()
        with captions.open() as lines, (documents / "captions.jsonl").open("w") as file:
            for number, line in enumerate(lines):
                file.write(json.dumps({"id": f"{number:09d}", "contents": line.rstrip("\n")}) + "\n")
        options = {"collection": "JsonCollection", "input": documents, "index": folder, "threads": 2}
        arguments = [word for name, value in options.items() for word in (f"-{name}", str(value))]
        java_class("io.anserini.index.IndexCollection").main([*arguments, "-storeRaw"])

    def __init__(self, folder: Path) -> None:
        self._searcher = searcher_class()(str(folder))

    @override
    def search(self, query: str) -> object:
        return self._searcher.search(query, K)

    @override
    def ranking(self, found: Any) -> Ranking:
        return [(int(hit.docid), hit.score) for hit in found]

    @override
    def search_on_two_threads(self, queries: Sequence[str]) -> None:
        self.batch(queries, 2)

    def batch(self, queries: Sequence[str], threads: int) -> object:
        """Search with Pyserini's batch function."""
        return self._searcher.batch_search(list(queries), [str(number) for number in range(len(queries))], K, threads)


class BM25S(Engine):
    """bm25s with numba, Lucene's variant, with the whole index in memory."""

    @staticmethod
    @override
    def build(captions: Path, folder: Path) -> None:
        import bm25s

        index = bm25s.BM25(method="lucene", k1=0.9, b=0.4, backend="numba")
        with captions.open() as lines:
            index.index([line.split() for line in lines], show_progress=False)
        index.save(folder)

    def __init__(self, folder: Path) -> None:
        import bm25s

        self._index = bm25s.BM25.load(folder)
        self._index.backend = "numba"

    @override
    def search(self, query: str) -> object:
        return self._index.retrieve([query.split()], k=K, show_progress=False, n_threads=1)

    @override
    def ranking(self, found: Any) -> Ranking:
        pairs = zip(found.documents[0], found.scores[0], strict=True)
        return [(int(document), float(score)) for document, score in pairs if score > 0]

    @override
    def search_on_two_threads(self, queries: Sequence[str]) -> None:
        self._index.retrieve([query.split() for query in queries], k=K, show_progress=False, n_threads=2)


class Tantivy(Engine):
    """tantivy, whose BM25 has fixed k1 = 1.2 and b = 0.75, so that its scores differ."""

    @staticmethod
    @override
    def build(captions: Path, folder: Path) -> None:
        import tantivy

        schema = tantivy.SchemaBuilder()
        schema.add_unsigned_field("number", stored=True)
        schema.add_text_field("contents", tokenizer_name="whitespace", index_option="freq", stored=True)
        folder.mkdir()
        writer = tantivy.Index(schema.build(), path=str(folder)).writer(num_threads=2)
        with captions.open() as lines:
            for number, line in enumerate(lines):
                writer.add_document(tantivy.Document(number=number, contents=line.rstrip("\n")))
        writer.commit()
        writer.wait_merging_threads()

    def __init__(self, folder: Path) -> None:
        import tantivy

        self._index = tantivy.Index.open(str(folder))
        self._searcher = self._index.searcher()

    @override
    def search(self, query: str) -> object:
        return self._searcher.search(self._index.parse_query(query, ["contents"]), K, count=False)

    @override
    def ranking(self, found: Any) -> Ranking:
        return [(self._searcher.doc(address)["number"][0], score) for score, address in found.hits]


PEERS: dict[str, type[Engine]] = {
    "ours": Ours,
    "bare Lucene": BareLucene,
    "pyserini": Pyserini,
    "bm25s, numba": BM25S,
    "tantivy": Tantivy,
}
ENGINES = PEERS | {"united": United}


def pair(number: int, caption: str) -> StoredPair:
    """Return a pair with that caption, whose image does not exist."""
    return StoredPair(
        id=f"{number:09d}",
        caption=caption,
        shard=f"{number // 10_000:05d}.tar",
        offset=512 + number % 10_000 * 61_440,
        length=60_000,
        sha256=f"{number:064x}",
        media_type="image/png",
        width=256,
        height=256,
    )
