"""BM25 over the captions of pairs: Pyserini's analysis and indexing with Lucene's searcher.

Lucene's searcher replaces Pyserini's wrapper, which rounds scores and fetches unneeded documents. Query, similarity
and order match Pyserini: a bag of words without operators, BM25 with k1 = 0.9 and b = 0.4 unless the base was built
with other values, and ties in the byte order of the ids. This order does not depend on Lucene's segments, unlike the
order of its document numbers.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reimagen_retriever.index.analysis import Analyzer
from reimagen_retriever.index.entities import Entities, Entity, EntityReader
from reimagen_retriever.index.filters import NO_FILTER, Filters, filtered, requiring
from reimagen_retriever.index.hits import Hit, TermScore
from reimagen_retriever.index.in_bulk import Ranking, document_frequencies
from reimagen_retriever.index.jvm import cast, in_java, java_class, start_jvm
from reimagen_retriever.index.pairs import PairIndex
from reimagen_retriever.knowledge_base.analysis import Analysis

_FIELD = "contents"
_LEAST_DEPTH = 32

Relevance = Literal["any", "entity", "phrase"]
"""What a caption must share with a query: any word (the paper's plain top-k), the main word of an entity that the query
asks for, or all words of the phrase that names the entity."""
DEFAULT_RELEVANCE: Relevance = "entity"


@dataclass(frozen=True)
class Statistics:
    """The statistics of all captions, including removed ones, that BM25 scores depend on."""

    captions: int
    average_length: float
    """Average length of a caption, in terms."""
    known_lengths: list[int]
    """The caption lengths that Lucene distinguishes, ascending. Other lengths are rounded down to one of them."""
    frequencies: list[int]
    """Document frequency of each of the requested terms."""


class BM25Index(PairIndex):
    """A BM25 index that is open for searches. Safe to use from many threads."""

    @in_java
    def __init__(self, folder: Path, analysis: Analysis | None = None) -> None:
        """Open an index that was written with this analysis.

        Raises:
            DamagedError: Lucene cannot read the index.
        """
        start_jvm()
        self.analysis = analysis or Analysis()
        sort_field = java_class("org.apache.lucene.search.SortField")
        by_id = sort_field("id", java_class("org.apache.lucene.search.SortField$Type").STRING_VAL)
        self._order = java_class("org.apache.lucene.search.Sort")(sort_field.FIELD_SCORE, by_id)
        self._queries = java_class("io.anserini.search.query.BagOfWordsQueryGenerator")()
        self._analyzer = Analyzer(self.analysis)
        self._entity_reader = EntityReader(self.analysis, self._analyzer)
        self._whitespace = java_class("org.apache.lucene.analysis.core.WhitespaceAnalyzer")()
        super().__init__(folder)

    def terms(self, text: str) -> list[str]:
        """Return the terms of a text in their order: lower-case stems without stop words.

        Queries with the same terms in any order have the same answer.
        """
        return self._analyzer.terms(text)

    def entities(self, query: str) -> Entities:
        """Return the entities that a query names."""
        return self._entity_reader.entities(query)

    @in_java
    def search(
        self, query: str, k: int, minimum_score: float, relevance: Relevance, filters: Filters = NO_FILTER
    ) -> list[Hit]:
        """Return the relevant pairs with the highest BM25 scores, best first.

        BM25 scores compare pairs, but do not show whether a pair fits at all: the query "a dragon in the snow" scores
        the caption "a snow leopard" as high as the query "a leopard" does. Therefore a caption must name what the query
        asks for, see `entities`. The captions that do are ranked by the whole query.

        Args:
            query: Free text. Any punctuation is allowed.
            k: Maximum number of hits.
            minimum_score: Hits with a lower BM25 score are left out.
            relevance: What a caption must share with the query.
            filters: The pairs to search.
        """
        terms, entities = self.terms(query), self.entities(query).named
        depth = k
        while True:
            ranked = self._ranked(terms, depth, filters, entities, relevance)
            hits: dict[str, Hit] = {}
            for number, score in ranked:
                if len(hits) == k or score < minimum_score:
                    break
                hit = Hit(self._pair(number), score)
                hits.setdefault(filters.group(hit.pair), hit)
            if len(hits) == k or len(ranked) < depth or ranked[-1][1] < minimum_score:
                return list(hits.values())
            # Near-duplicates have used up the depth: search deeper.
            depth = max(4 * depth, _LEAST_DEPTH)

    @in_java
    def search_per_entity(
        self, query: str, k: int, minimum_score: float, relevance: Relevance, filters: Filters = NO_FILTER
    ) -> list[Hit]:
        """Return pairs that together show the entities that a query names: "a poodle and a macaw in the snow".

        The entities take turns in the order of mention. In its turn, each contributes its best relevant pair that is
        not yet a hit. Within a round, no two hits have the same terms. Objects beside an entity and places contribute
        only pairs whose captions have no other terms: "a cat on a skateboard" finds "a skateboard", but "a cat in the
        snow" does not find a snowstorm.

        Args:
            query: Free text. Any punctuation is allowed.
            k: Maximum number of hits.
            minimum_score: Hits with a lower BM25 score for the words of their entity are left out.
            relevance: What a caption must share with an entity.
            filters: The pairs to search.

        Returns:
            The hits in the order in which they were chosen, with their scores for the words of their entity.
        """
        entities = self.entities(query)
        depth = max(4 * k, _LEAST_DEPTH)
        candidates_of_each = [
            self._hits_of(entity, depth, minimum_score, relevance, filters, whole=whole)
            for whole, group in ((False, entities.named), (True, entities.others))
            for entity in group
        ]
        hits: dict[str, Hit] = {}
        while len(hits) < k:
            before, terms_of_round = len(hits), set[frozenset[str]]()
            for candidates in candidates_of_each:
                for hit, terms in candidates:
                    group = filters.group(hit.pair)
                    if group not in hits and terms not in terms_of_round:
                        hits[group] = hit
                        terms_of_round.add(terms)
                        break
            if len(hits) == before:
                break
        return list(hits.values())[:k]

    @in_java
    def statistics(self, terms: Sequence[str]) -> Statistics:
        """Return the collection statistics behind Lucene's scores, and the document frequencies of some terms.

        Removed pairs count until their segments are merged.
        """
        small_float = java_class("org.apache.lucene.util.SmallFloat")
        return Statistics(
            self._counted,
            self._reader.getSumTotalTermFreq(_FIELD) / max(self._counted, 1),
            [small_float.byte4ToInt(norm - 256 if norm > 127 else norm) for norm in range(256)],
            document_frequencies(self._reader, _FIELD, terms),
        )

    @in_java
    def explain(self, query: str, identifier: str) -> list[TermScore]:
        """Return what each term of the query adds to the score of a pair, largest first; [] for an unknown id."""
        document = self._document(identifier)
        if document is None:
            return []
        explained = []
        for term, times in Counter(self.terms(query)).items():
            # Without the cast, pyjnius picks the overload for weights.
            term_query = cast("org.apache.lucene.search.Query", self._term_query(self._term(_FIELD, term)))
            explanation = self._searcher.explain(term_query, document)
            if not explanation.isMatch():
                continue
            # Lucene describes the factors of the score as "idf, computed as ..." and "tf, computed as ...".
            factors = {
                factor.getDescription().partition(",")[0]: factor.getValue().doubleValue()
                for factor in explanation.getDetails()[0].getDetails()
            }
            explained.append(
                TermScore(term, times, factors["idf"], factors["tf"], times * explanation.getValue().doubleValue())
            )
        return sorted(explained, key=lambda each: (-each.score, each.term))

    def _use(self, commits: Sequence[Any]) -> None:
        super()._use(commits)
        similarity = java_class("org.apache.lucene.search.similarities.BM25Similarity")
        self._searcher.setSimilarity(similarity(self.analysis.k1, self.analysis.b))
        # Lucene's statistics count removed documents until their segments are merged.
        self._counted: int = self._reader.getDocCount(_FIELD)

    def _hits_of(
        self, entity: Entity, depth: int, minimum_score: float, relevance: Relevance, filters: Filters, *, whole: bool
    ) -> list[tuple[Hit, frozenset[str]]]:
        """Return the pairs of an entity with their terms, best first; if `whole`, only those without other terms."""
        hits = []
        for number, score in self._ranked(entity.terms, depth, filters, [entity], relevance):
            if score < minimum_score:
                break
            pair = self._pair(number)
            terms = frozenset(self.terms(pair.caption))
            if not whole or terms <= set(entity.terms):
                hits.append((Hit(pair, score), terms))
        return hits

    def _ranked(
        self, terms: Sequence[str], depth: int, filters: Filters, entities: Sequence[Entity], relevance: Relevance
    ) -> Ranking:
        """Return the numbers and scores of the `depth` best relevant documents that share a term."""
        if not terms:
            return []
        # Terms contain no white space, so the white-space analyzer leaves them as they are.
        query = self._queries.buildQuery(_FIELD, self._whitespace, " ".join(terms))
        if relevance != "any":
            query = requiring(query, _FIELD, required_terms(entities, relevance))
        return self._found(self._searcher.search(filtered(query, filters), depth, self._order))


def required_terms(entities: Sequence[Entity], relevance: Relevance) -> list[tuple[str, ...]]:
    """Return the alternatives of which a caption must have all terms of at least one. Empty for "any"."""
    match relevance:
        case "any":
            return []
        case "entity":
            return list(dict.fromkeys(head for entity in entities for head in entity.heads))
        case "phrase":
            return list(dict.fromkeys(entity.terms for entity in entities))
