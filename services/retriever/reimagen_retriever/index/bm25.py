"""BM25 over the pairs' texts: Pyserini's analysis and indexing, Lucene's searcher.

The searcher is Lucene's own rather than Pyserini's wrapper, which rounds scores and fetches documents that are not
wanted. Query, similarity and order are Pyserini's: a bag of words that knows no operators, BM25 with k1 = 0.9 and
b = 0.4 unless the base was built with others, equal scores in the order of the ids' bytes. The order holds however
Lucene lays out its segments, unlike that of its document numbers.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from reimagen_retriever.index.analysis import Analysis, Analyzer
from reimagen_retriever.index.filters import EVERYTHING, Filters, filtered
from reimagen_retriever.index.hits import Hit, TermScore
from reimagen_retriever.index.in_bulk import Ranking, document_frequencies
from reimagen_retriever.index.jvm import cast, in_java, java_class, start_jvm
from reimagen_retriever.index.pairs import PairIndex

_FIELD = "contents"
_KEPT_TERMS = 10_000
_MORE = 4  # than are asked for are ranked at first where a few may have too little in common


@dataclass(frozen=True)
class _Terms:
    """A text's terms, and how much information they are together."""

    terms: frozenset[str]
    information: float


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
        self._whitespace = java_class("org.apache.lucene.analysis.core.WhitespaceAnalyzer")()
        super().__init__(folder)

    def terms(self, text: str) -> list[str]:
        """What the analysis makes of a text: lower-case stems without stop words, in their order.

        Two queries with the same terms, in whatever order, have the same answer.
        """
        return self._analyzer.terms(text)

    @in_java
    def overlap(self, query: str, text: str) -> float:
        """How much of the shorter of query and text the other one says too, 0 to 1, see `search`."""
        asked = self._terms(query)
        return self._overlap(asked.information, asked.terms, self._terms(text))

    @in_java
    def search(
        self, query: str, k: int, minimum_score: float, minimum_overlap: float, filters: Filters = EVERYTHING
    ) -> list[Hit]:
        """The pairs that share most with a query, best first.

        BM25 scores say which pair fits better, not whether one fits at all: their scale depends on the base and the
        query, and "a dragon in the snow" scores the text "a snow leopard" as high as "a leopard" scores it. Overlap
        says that: of query and text take the one that carries less information (the sum of the inverse document
        frequencies of its terms; a term that the base lacks counts as the rarest of all); overlap is the share of it
        that lies in the terms they have in common. A short text wholly named in a long prompt has 1, and so has a
        short query wholly named in a long text; a pair that shares a scene's word with a prompt has little.

        Args:
            query: Free text; all punctuation is harmless.
            k: How many at most.
            minimum_score: Hits below this BM25 score are left out.
            minimum_overlap: Hits below this overlap, 0 to 1, are left out.
            filters: What pairs are looked at.
        """
        terms = self.terms(query)
        first = k + _MORE if minimum_overlap else k
        ranked = self._ranked(terms, first, filters)
        whole = len(ranked) < first
        depth = 0
        while True:
            hits: dict[str, Hit] = {}
            looked_at = 0
            for hit, _ in self._relevant(terms, terms, ranked, minimum_score, minimum_overlap):
                looked_at += 1
                hits.setdefault(filters.group(hit.pair), hit)
                if len(hits) == k:
                    break
            if len(hits) == k or whole or (depth and len(hits) == looked_at):
                return list(hits.values())
            # Again if near-duplicates have taken the place of pairs that rank lower.
            depth = 4 * depth or search_depth(k)
            ranked = self._ranked(terms, depth, filters)
            whole = len(ranked) < depth

    @in_java
    def search_per_entity(
        self, query: str, k: int, minimum_score: float, minimum_overlap: float, filters: Filters = EVERYTHING
    ) -> list[Hit]:
        """Pairs that together show the things that a query names: "a poodle and a macaw in the snow".

        The first hit is that of `search`. The words of its text are then crossed off the query, one mention of each:
        "a bear and a polar bear" still asks for a bear after the polar bear. The next hit is the best for the words
        that are left, and so on. When no pair is relevant to them, a new round begins with the whole query and the
        pairs not taken yet, so that of four hits for two things each gets two. No round has the same text twice.

        Relevance is the overlap of `search`, except that only words that are left count as common; query and text
        still carry the information of all their words. So what a prompt's scene leaves over, "snow", does not find
        "a field of snow under a pale sky": it is a small part of that text and of the prompt.

        Args:
            query: Free text; all punctuation is harmless.
            k: How many at most.
            minimum_score: Hits below this BM25 score, for the words that were left, are left out.
            minimum_overlap: Hits below this overlap, 0 to 1, are left out.
            filters: What pairs are looked at.

        Returns:
            The hits in the order of their choice, with their scores for the words that were left.
        """
        asked = self.terms(query)
        ranked = cache(lambda terms: self._ranked(terms, search_depth(k), filters))
        hits: list[Hit] = []
        left, said = Counter(asked), set[frozenset[str]]()
        while len(hits) < k:
            taken = {filters.group(hit.pair) for hit in hits}
            terms = tuple(sorted(left.elements()))
            relevant = self._relevant(asked, terms, ranked(terms), minimum_score, minimum_overlap)
            terms_of = ((hit, self._terms_of(document).terms) for hit, document in relevant)
            new = ((hit, its) for hit, its in terms_of if filters.group(hit.pair) not in taken and its not in said)
            found = next(new, None)
            if found:
                hit, its_terms = found
                hits.append(hit)
                said.add(its_terms)
                left = left - Counter(its_terms)
            elif said:
                left, said = Counter(asked), set()
            else:
                break
        return hits

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

    def information(self, frequency: int) -> float:
        """Of a term that so many pairs have: its inverse document frequency.

        A multiple of 2⁻³²: sums of ten thousand terms are exact, so the same in any order.
        """
        return round(math.log1p((self._counted - frequency + 0.5) / (frequency + 0.5)) * 2**32) / 2**32

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
        self._weight = lru_cache(maxsize=100_000)(self._information_of)
        self._terms_of = lru_cache(maxsize=_KEPT_TERMS)(lambda document: self._terms(self._pair(document).contents))
        # Lucene's statistics count removed documents until their segments are merged.
        self._counted: int = self._reader.getDocCount(_FIELD)

    def _ranked(self, terms: Sequence[str], depth: int, filters: Filters) -> Ranking:
        """The first documents that share a term, by their numbers, and their scores."""
        return self._found(self._searcher.search(self._query(terms, filters), depth, self._order)) if terms else []

    def _query(self, terms: Sequence[str], filters: Filters) -> Any:
        # Terms have no white space in them: they are not analyzed a second time.
        query = self._queries.buildQuery(_FIELD, self._whitespace, " ".join(terms))
        return filtered(query, filters)

    def _relevant(
        self,
        query: Iterable[str],
        left: Iterable[str],
        ranked: Ranking,
        minimum_score: float,
        minimum_overlap: float,
    ) -> Iterator[tuple[Hit, int]]:
        """Of ranked documents those that have enough in common with what is left of a query, and their numbers."""
        left, information = frozenset(left), self._information(frozenset(query)) if minimum_overlap else 0.0
        for number, score in ranked:
            if score < minimum_score:
                return
            # The overlap takes longer than all else that is done for a pair.
            if not minimum_overlap or self._overlap(information, left, self._terms_of(number)) >= minimum_overlap:
                yield Hit(self._pair(number), score), number

    def _overlap(self, information: float, left: frozenset[str], text: _Terms) -> float:
        least = min(information, text.information)
        return self._information(left & text.terms) / least if least else 0.0

    def _terms(self, text: str) -> _Terms:
        terms = frozenset(self.terms(text))
        return _Terms(terms, self._information(terms))

    def _information(self, terms: Iterable[str]) -> float:
        return sum(map(self._weight, terms))

    def _information_of(self, term: str) -> float:
        return self.information(self._reader.docFreq(self._term(_FIELD, term)))


def search_depth(k: int) -> int:
    """How many documents to rank: more than k, because pairs of little overlap may stand before one named in full."""
    return max(4 * k, 32)
