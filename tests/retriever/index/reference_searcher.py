"""Search with Anserini's query and Lucene's searcher, one call into Java after the other."""

from pathlib import Path

from reimagen_retriever.index.jvm import cast, in_java, java_class, start_jvm
from reimagen_retriever.knowledge_base.analysis import Analysis


class ReferenceSearcher:
    """A searcher of an index that was written with this analysis."""

    @in_java
    def __init__(self, folder: Path, analysis: Analysis | None = None) -> None:
        start_jvm()
        analysis = analysis or Analysis()
        directory = java_class("org.apache.lucene.store.FSDirectory")
        path = java_class("java.nio.file.Paths").get(str(folder))
        reader = java_class("org.apache.lucene.index.DirectoryReader").open(directory.open(path))
        similarity = java_class("org.apache.lucene.search.similarities.BM25Similarity")
        self._searcher = java_class("org.apache.lucene.search.IndexSearcher")(
            cast("org.apache.lucene.index.IndexReader", reader)
        )
        self._searcher.setSimilarity(similarity(analysis.k1, analysis.b))
        self._queries = java_class("io.anserini.search.query.BagOfWordsQueryGenerator")()
        self._whitespace = java_class("org.apache.lucene.analysis.core.WhitespaceAnalyzer")()
        sort_field = java_class("org.apache.lucene.search.SortField")
        by_id = sort_field("id", java_class("org.apache.lucene.search.SortField$Type").STRING_VAL)
        self._order = java_class("org.apache.lucene.search.Sort")(sort_field.FIELD_SCORE, by_id)

    @in_java
    def search(self, terms: list[str], k: int) -> list[tuple[str, float]]:
        """Return the ids and scores of the best documents, ties in the byte order of the ids."""
        query = self._queries.buildQuery("contents", self._whitespace, " ".join(terms))
        found = self._searcher.search(query, k, self._order, True)
        documents = self._searcher.storedFields()
        return [(documents.document(hit.doc).get("id"), hit.score) for hit in found.scoreDocs]
