"""BM25 over the pairs' texts: Pyserini's analysis and indexing, Lucene's searcher.

The searcher is Lucene's own rather than Pyserini's wrapper, which rounds scores and fetches documents that are not
wanted. Query, similarity and order are Pyserini's: a bag of words that knows no operators, BM25 with k1 = 0.9 and
b = 0.4 unless the base was built with others, equal scores in the order of the ids' bytes. The order holds however
Lucene lays out its segments, unlike that of its document numbers.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reimagen_retriever.index.analysis import Analyzer
from reimagen_retriever.index.entities import Thing, ThingReader, Things
from reimagen_retriever.index.filters import NO_FILTER, Filters, filtered, naming
from reimagen_retriever.index.hits import Hit, TermScore
from reimagen_retriever.index.in_bulk import Ranking, document_frequencies
from reimagen_retriever.index.jvm import cast, in_java, java_class, start_jvm
from reimagen_retriever.index.pairs import PairIndex
from reimagen_retriever.knowledge_base.analysis import Analysis

_FIELD = "contents"
_LEAST_DEPTH = 32

Relevance = Literal["any", "entity", "phrase"]
"""What a caption must have of a query: any of its words (the paper's plain top-k), the main word of a thing that it
asks for, or all words of the phrase that names the thing."""
DEFAULT_RELEVANCE: Relevance = "entity"


@dataclass(frozen=True)
class Statistics:
    """Of all texts, removed ones included, for their scores."""

    captions: int
    average_length: float
    """In terms."""
    known_lengths: list[int]
    """All that Lucene tells apart, ascending; others are rounded down."""
    frequencies: list[int]
    """How many texts have a term, of each of the terms asked for."""


class BM25Index(PairIndex):
    """Searches an index; safe to use from many threads."""

    @in_java
    def __init__(self, folder: Path, analysis: Analysis | None = None) -> None:
        """Opens an index that was written with this analysis.

        Raises:
            DamagedError: Lucene cannot read what is in the folder.
        """
        start_jvm()
        self.analysis = analysis or Analysis()
        sort_field = java_class("org.apache.lucene.search.SortField")
        by_id = sort_field("id", java_class("org.apache.lucene.search.SortField$Type").STRING_VAL)
        self._order = java_class("org.apache.lucene.search.Sort")(sort_field.FIELD_SCORE, by_id)
        self._queries = java_class("io.anserini.search.query.BagOfWordsQueryGenerator")()
        self._analyzer = Analyzer(self.analysis)
        self._prompts = ThingReader(self.analysis, self._analyzer)
        self._whitespace = java_class("org.apache.lucene.analysis.core.WhitespaceAnalyzer")()
        super().__init__(folder)

    def terms(self, text: str) -> list[str]:
        """What the analysis makes of a text: lower-case stems without stop words, in their order.

        Two queries with the same terms, in whatever order, have the same answer.
        """
        return self._analyzer.terms(text)

    def things(self, query: str) -> Things:
        """Return the things that a query names."""
        return self._prompts.things(query)

    @in_java
    def search(
        self, query: str, k: int, minimum_score: float, relevance: Relevance, filters: Filters = NO_FILTER
    ) -> list[Hit]:
        """Return the relevant pairs that share most with a query, best first.

        BM25 scores tell which pair fits better, not whether one fits at all: "a dragon in the snow" scores the text
        "a snow leopard" as high as "a leopard" scores it. So a caption must name what the query asks for, see
        `entities`; those that do are ranked by the whole query.

        Args:
            query: Free text; all punctuation is harmless.
            k: How many at most.
            minimum_score: Hits below this BM25 score are left out.
            relevance: What a caption must have of the query.
            filters: What pairs are looked at.
        """
        terms, things = self.terms(query), self.things(query).named
        depth = k
        while True:
            ranked = self._ranked(terms, depth, filters, things, relevance)
            hits: dict[str, Hit] = {}
            for number, score in ranked:
                if len(hits) == k or score < minimum_score:
                    break
                hit = Hit(self._pair(number), score)
                hits.setdefault(filters.group(hit.pair), hit)
            if len(hits) == k or len(ranked) < depth or ranked[-1][1] < minimum_score:
                return list(hits.values())
            # Again if near-duplicates have taken the place of pairs that rank lower.
            depth = max(4 * depth, _LEAST_DEPTH)

    @in_java
    def search_per_entity(
        self, query: str, k: int, minimum_score: float, relevance: Relevance, filters: Filters = NO_FILTER
    ) -> list[Hit]:
        """Return pairs that together show the things that a query names: "a poodle and a macaw in the snow".

        The things take turns in the order of mention, each with the best of its relevant pairs that was not taken
        yet. In a round no two hits have the same words. What a thing stands beside, and a place, is a thing of its own
        if a caption has no other word: "a cat on a skateboard" finds "a skateboard", "a cat in the snow" no snowstorm.

        Args:
            query: Free text; all punctuation is harmless.
            k: How many at most.
            minimum_score: Hits below this BM25 score, for the words of their thing, are left out.
            relevance: What a caption must have of a thing.
            filters: What pairs are looked at.

        Returns:
            The hits in the order of their choice, with their scores for the words of their thing.
        """
        things = self.things(query)
        depth = max(4 * k, _LEAST_DEPTH)
        found = [
            self._hits_of(thing, depth, minimum_score, relevance, filters, whole=whole)
            for whole, group in ((False, things.named), (True, things.others))
            for thing in group
        ]
        hits: dict[str, Hit] = {}
        while len(hits) < k:
            before, said = len(hits), set[frozenset[str]]()
            for candidates in found:
                for hit, terms in candidates:
                    group = filters.group(hit.pair)
                    if group not in hits and terms not in said:
                        hits[group] = hit
                        said.add(terms)
                        break
            if len(hits) == before:
                break
        return list(hits.values())[:k]

    @in_java
    def statistics(self, terms: Sequence[str]) -> Statistics:
        """What Lucene's scores are made of beside the texts, and how many pairs have each of some terms.

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
        """What each of the query's terms adds to the score of a pair, the most first; none if it is not there."""
        document = self._document(identifier)
        if document is None:
            return []
        explained = []
        for term, times in Counter(self.terms(query)).items():
            # Without the cast, pyjnius takes the overload for weights.
            one = cast("org.apache.lucene.search.Query", self._term_query(self._term(_FIELD, term)))
            told = self._searcher.explain(one, document)
            if not told.isMatch():
                continue
            # Of the score, Lucene tells the factors: "idf, computed as ..." and "tf, computed as ...".
            factors = {
                factor.getDescription().partition(",")[0]: factor.getValue().doubleValue()
                for factor in told.getDetails()[0].getDetails()
            }
            explained.append(
                TermScore(term, times, factors["idf"], factors["tf"], times * told.getValue().doubleValue())
            )
        return sorted(explained, key=lambda each: (-each.score, each.term))

    def _use(self, commits: Sequence[Any]) -> None:
        super()._use(commits)
        similarity = java_class("org.apache.lucene.search.similarities.BM25Similarity")
        self._searcher.setSimilarity(similarity(self.analysis.k1, self.analysis.b))
        # Lucene's statistics count removed documents until their segments are merged.
        self._counted: int = self._reader.getDocCount(_FIELD)

    def _hits_of(
        self, thing: Thing, depth: int, minimum_score: float, relevance: Relevance, filters: Filters, *, whole: bool
    ) -> list[tuple[Hit, frozenset[str]]]:
        """Return the pairs of one thing, best first, and their terms; if `whole`, those of no other term."""
        hits = []
        for number, score in self._ranked(thing.terms, depth, filters, [thing], relevance):
            if score < minimum_score:
                break
            pair = self._pair(number)
            terms = frozenset(self.terms(pair.caption))
            if not whole or terms <= set(thing.terms):
                hits.append((Hit(pair, score), terms))
        return hits

    def _ranked(
        self, terms: Sequence[str], depth: int, filters: Filters, things: Sequence[Thing], relevance: Relevance
    ) -> Ranking:
        """Return the first documents that share a term and are relevant, by their numbers, and their scores."""
        if not terms:
            return []
        # Terms have no white space in them: they are not analyzed a second time.
        query = self._queries.buildQuery(_FIELD, self._whitespace, " ".join(terms))
        if relevance != "any":
            query = naming(query, _FIELD, required_terms(things, relevance))
        return self._found(self._searcher.search(filtered(query, filters), depth, self._order))


def required_terms(things: Sequence[Thing], relevance: Relevance) -> list[tuple[str, ...]]:
    """Return the alternatives of what a caption must have of a query's things: all terms of one; none if "any"."""
    match relevance:
        case "any":
            return []
        case "entity":
            return list(dict.fromkeys(head for thing in things for head in thing.heads))
        case "phrase":
            return list(dict.fromkeys(thing.terms for thing in things))
