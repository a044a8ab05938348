"""Which pairs a search may find at all; what it finds of them has the same scores as without."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.index.jvm import java_class
from reimagen_retriever.knowledge_base.pair import StoredPair

MAXIMUM_VALUES = 64
MAXIMUM_EXCLUDED = 500
MAXIMUM_SIDE = 100_000
LONGEST_VALUE = 2_000
# Of UTF-8; Lucene refuses longer prefixes.
LONGEST_SOURCE = 1_000


@dataclass(frozen=True)
class Filters:
    """Conditions on pairs, all of which must hold; the default lets all pairs pass."""

    licenses: tuple[str, ...] = ()
    """The license is one of these, to the letter; '' is an unknown one."""
    sources: tuple[str, ...] = ()
    """The source begins with one of these, such as `https://example.org/`."""
    minimum_side: int = 0
    """In pixels, of the shorter side."""
    safe_only: bool = False
    """Pairs are left out that their source says are not safe for work. Those of which it says nothing stay."""
    exclude_ids: tuple[str, ...] = ()
    """The id is none of these."""
    keep_duplicates: bool = False
    """All of several pairs with nearly the same image (`StoredPair.duplicate_of`), not the best of them alone."""

    def check(self, within: str = "") -> None:
        """Refuses what is beyond the limits.

        Raises:
            InvalidArgument: naming the field.
        """
        limits = (("licenses", MAXIMUM_VALUES), ("sources", MAXIMUM_VALUES), ("exclude_ids", MAXIMUM_EXCLUDED))
        for name, most in limits:
            values = getattr(self, name)
            if len(values) > most:
                raise InvalidArgument(f"must be at most {most}, got {len(values):,}", field=f"{within}{name}")
            if any(len(value) > LONGEST_VALUE for value in values):
                raise InvalidArgument(f"must have at most {LONGEST_VALUE:,} characters each", field=f"{within}{name}")
        if any(len(source.encode("utf-8", "surrogatepass")) > LONGEST_SOURCE for source in self.sources):
            raise InvalidArgument(f"must have at most {LONGEST_SOURCE:,} bytes of UTF-8 each", field=f"{within}sources")
        if "" in self.sources:
            raise InvalidArgument("must not be empty: every source begins with that", field=f"{within}sources")
        if not 0 <= self.minimum_side <= MAXIMUM_SIDE:
            raise InvalidArgument(
                f"must be 0 to {MAXIMUM_SIDE:,}, got {self.minimum_side:,}", field=f"{within}minimum_side"
            )

    def canonical(self) -> Self:
        """Equal for filters that mean the same."""
        licenses, sources, excluded = (
            tuple(sorted(set(values))) for values in (self.licenses, self.sources, self.exclude_ids)
        )
        return replace(self, licenses=licenses, sources=sources, exclude_ids=excluded)

    def group(self, pair: StoredPair) -> str:
        """What no two hits of an answer share."""
        return pair.id if self.keep_duplicates else pair.duplicate_of or pair.id


NO_FILTER = Filters()


def filtered(query: Any, filters: Filters) -> Any:
    """A Lucene query that finds what another one does, with its scores, among the pairs that pass; see `in_java`."""
    clauses = _clauses(filters)
    if not clauses:
        return query
    builder = java_class("org.apache.lucene.search.BooleanQuery$Builder")()
    builder.add(query, _occur("MUST"))
    for clause, occur in clauses:
        builder.add(clause, occur)
    return builder.build()


def naming(query: Any, field: str, alternatives: Iterable[Sequence[str]]) -> Any:
    """A Lucene query that finds what another one does, with its scores, where all terms of an alternative are there."""
    alternatives = list(alternatives)
    if all(len(terms) == 1 for terms in alternatives):
        named = any_of(field, {term for terms in alternatives for term in terms})
    else:
        choices = java_class("org.apache.lucene.search.BooleanQuery$Builder")()
        for terms in alternatives:
            together = java_class("org.apache.lucene.search.BooleanQuery$Builder")()
            for term in terms:
                together.add(any_of(field, [term]), _occur("MUST"))
            choices.add(together.build(), _occur("SHOULD"))
        named = choices.build()
    builder = java_class("org.apache.lucene.search.BooleanQuery$Builder")()
    builder.add(query, _occur("MUST"))
    builder.add(named, _occur("FILTER"))
    return builder.build()


def any_of(field: str, values: Iterable[str]) -> Any:
    """A Lucene query that finds the pairs whose field has one of the values."""
    found, as_bytes = java_class("java.util.ArrayList")(), java_class("org.apache.lucene.util.BytesRef")
    for value in values:
        found.add(as_bytes(value.encode(errors="replace")))
    return java_class("org.apache.lucene.search.TermInSetQuery")(field, found)


@lru_cache(maxsize=256)
def _clauses(filters: Filters) -> tuple[tuple[Any, Any], ...]:
    """Lucene's queries, and how they must or must not hold: none of them scores."""
    term = java_class("org.apache.lucene.index.Term")
    found: list[tuple[Any, Any]] = []
    if filters.licenses:
        found.append((any_of("license", filters.licenses), _occur("FILTER")))
    if filters.sources:
        builder = java_class("org.apache.lucene.search.BooleanQuery$Builder")()
        for source in filters.sources:
            builder.add(
                java_class("org.apache.lucene.search.PrefixQuery")(
                    term("source", source.encode(errors="replace").decode())
                ),
                _occur("SHOULD"),
            )
        found.append((builder.build(), _occur("FILTER")))
    if filters.minimum_side:
        range_query = java_class("org.apache.lucene.document.IntPoint").newRangeQuery
        found.append((range_query("side", filters.minimum_side, MAXIMUM_SIDE), _occur("FILTER")))
    if filters.safe_only:
        found.append((java_class("org.apache.lucene.search.TermQuery")(term("unsafe", "1")), _occur("MUST_NOT")))
    if filters.exclude_ids:
        found.append((any_of("id", filters.exclude_ids), _occur("MUST_NOT")))
    return tuple(found)


def _occur(name: str) -> Any:
    return getattr(java_class("org.apache.lucene.search.BooleanClause$Occur"), name)
