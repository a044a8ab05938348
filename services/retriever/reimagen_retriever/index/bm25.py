"""BM25 over the captions of pairs: Pyserini's analysis and indexing with Lucene's searcher.

Lucene's searcher replaces Pyserini's wrapper, which rounds scores and fetches unneeded documents. Query, similarity
and order match Pyserini: a bag of words without operators, BM25 with k1 = 0.9 and b = 0.4 unless the base was built
with other values, and ties in the byte order of the ids. This order does not depend on Lucene's segments, unlike the
order of its document numbers.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from reimagen_retriever.index.analysis import Analyzer
from reimagen_retriever.index.entities import Entities, Entity, EntityReader
from reimagen_retriever.index.filters import NO_FILTER, Filters
from reimagen_retriever.index.hits import Hit, TermScore
from reimagen_retriever.index.lucene import Document, Query, Statistics
from reimagen_retriever.index.pairs import PairIndex
from reimagen_retriever.knowledge_base.analysis import Analysis

_LEAST_DEPTH = 32

Relevance = Literal["any", "entity", "phrase"]
"""What a caption must share with a query: any word (the paper's plain top-k), the main word of an entity that the query
asks for, or all words of the phrase that names the entity."""
DEFAULT_RELEVANCE: Relevance = "entity"


class BM25Search(NamedTuple):
    """The parameters of `BM25Index.search`."""

    query: str
    """Free text. Any punctuation is allowed."""
    k: int
    """Maximum number of hits."""
    minimum_score: float
    """Hits with a lower BM25 score are left out."""
    relevance: Relevance
    """What a caption must share with the query."""
    filters: Filters = NO_FILTER
    """The pairs to search."""


class BM25Index(PairIndex):
    """A BM25 index that is open for searches. Safe to use from many threads."""

    def __init__(self, folder: Path, analysis: Analysis | None = None) -> None:
        """Open an index that was written with this analysis.

        Raises:
            DamagedError: Lucene cannot read the index.
        """
        super().__init__(folder, analysis)
        self._analyzer = Analyzer(self.analysis)
        self._entity_reader = EntityReader(self.analysis, self._analyzer)

    def terms(self, text: str) -> list[str]:
        """Return the terms of a text in their order: lower-case stems without stop words.

        Queries with the same terms in any order have the same answer.
        """
        return self._analyzer.terms(text)

    def entities(self, query: str) -> Entities:
        """Return the entities that a query names."""
        return self._entity_reader.entities(query)

    def search(
        self, query: str, k: int, minimum_score: float, relevance: Relevance, filters: Filters = NO_FILTER
    ) -> list[Hit]:
        """Return the relevant pairs with the highest BM25 scores, best first. For the parameters, see `BM25Search`."""
        return self.search_all([BM25Search(query, k, minimum_score, relevance, filters)])[0]

    def search_all(self, searches: Sequence[BM25Search]) -> list[list[Hit]]:
        """Return the hits of each search, which are those of `search`, on all free cores.

        BM25 scores compare pairs, but do not show whether a pair fits at all: the query "a dragon in the snow" scores
        the caption "a snow leopard" as high as the query "a leopard" does. Therefore a caption must name what the query
        asks for, see `entities`. The captions that do are ranked by the whole query.
        """
        found: list[list[Hit]] = [[] for _ in searches]
        waiting: dict[int, Query] = {}
        for number, search in enumerate(searches):
            terms = self.terms(search.query)
            if terms:
                named = self.entities(search.query).named if search.relevance != "any" else ()
                waiting[number] = Query(terms, search.k, _required(named, search.relevance), search.filters)
        while waiting:
            deeper: dict[int, Query] = {}
            rankings = self._lucene.search(list(waiting.values()))
            for (number, query), ranked in zip(waiting.items(), rankings, strict=True):
                search = searches[number]
                found[number] = self._best(ranked, search)
                exhausted = len(ranked) < query.depth or ranked[-1].score < search.minimum_score
                if len(found[number]) < search.k and not exhausted:
                    # Near-duplicates have used up the depth.
                    deeper[number] = query._replace(depth=max(4 * query.depth, _LEAST_DEPTH))
            waiting = deeper
        return found

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
        asked = [entity for entity in (*entities.named, *entities.others) if entity.terms]
        rankings = self._lucene.search(
            [Query(entity.terms, depth, _required([entity], relevance), filters) for entity in asked]
        )
        candidates_of_each = [
            self._candidates(entity, ranked, minimum_score, whole=entity not in entities.named)
            for entity, ranked in zip(asked, rankings, strict=True)
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

    def statistics(self, terms: Sequence[str]) -> Statistics:
        """Return the collection statistics behind Lucene's scores, and the document frequencies of some terms.

        Removed pairs count until their segments are merged.
        """
        return self._lucene.statistics(terms)

    def explain(self, query: str, identifier: str) -> list[TermScore]:
        """Return what each term of the query adds to the score of a pair, largest first; [] for an unknown id."""
        found = self._lucene.find("id", [identifier], 1)
        if not found:
            return []
        counted = Counter(self.terms(query))
        explained = zip(counted.items(), self._lucene.explain(list(counted), found[0].number).tolist(), strict=True)
        scores = [TermScore(term, times, idf, tf, times * one) for (term, times), (one, idf, tf) in explained if one]
        return sorted(scores, key=lambda each: (-each.score, each.term))

    def _best(self, ranked: Sequence[Document], search: BM25Search) -> list[Hit]:
        hits: dict[str, Hit] = {}
        for document in ranked:
            if len(hits) == search.k or document.score < search.minimum_score:
                break
            hit = Hit(self._pair(document), document.score)
            hits.setdefault(search.filters.group(hit.pair), hit)
        return list(hits.values())

    def _candidates(
        self, entity: Entity, ranked: Sequence[Document], minimum_score: float, *, whole: bool
    ) -> list[tuple[Hit, frozenset[str]]]:
        """Return the pairs of an entity with their terms, best first; if `whole`, only those without other terms."""
        hits = []
        for document in ranked:
            if document.score < minimum_score:
                break
            pair = self._pair(document)
            terms = frozenset(self.terms(pair.caption))
            if not whole or terms <= set(entity.terms):
                hits.append((Hit(pair, document.score), terms))
        return hits


def _required(entities: Sequence[Entity], relevance: Relevance) -> list[tuple[str, ...]] | None:
    """Return the alternatives for Lucene, or None if there is no requirement."""
    return None if relevance == "any" else required_terms(entities, relevance)


def required_terms(entities: Sequence[Entity], relevance: Relevance) -> list[tuple[str, ...]]:
    """Return the alternatives of which a caption must have all terms of at least one. Empty for "any"."""
    match relevance:
        case "any":
            return []
        case "entity":
            return list(dict.fromkeys(head for entity in entities for head in entity.heads))
        case "phrase":
            return list(dict.fromkeys(entity.terms for entity in entities))
