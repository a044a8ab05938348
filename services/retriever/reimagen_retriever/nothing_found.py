"""Explain why a search found nothing, and which field to change."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.filters import NO_FILTER, Filters
from reimagen_retriever.index.hits import Hit
from reimagen_retriever.search import Defaults, Search, find, in_force


@dataclass(frozen=True)
class NothingFound:
    """The explanation of an empty answer."""

    reason: str
    field: str
    """The field of the search or of its filters to change."""
    nearest: Hit | None = None
    """The pair that would rank first if every pair were relevant."""
    lacking: Sequence[str] = ()
    """The main words of the query's entities that the caption of the nearest pair lacks."""


def explain_empty(base: KnowledgeBase, search: Search, defaults: Defaults) -> NothingFound:
    """Return why a validated search found nothing.

    Raises:
        InvalidArgument: see `find`.
    """
    if search.filters != NO_FILTER and find(base, replace(search, filters=NO_FILTER, k=1), defaults):
        names = [each.name for each in fields(Filters) if getattr(search.filters, each.name) != each.default]
        # Searches set safe_only by themselves, so it is named only if it alone leaves out every pair.
        safe = Filters(safe_only=True)
        if len(names) > 1 and search.filters.safe_only and find(base, replace(search, filters=safe, k=1), defaults):
            names.remove("safe_only")
        return NothingFound(f"every pair that fits the query is left out by {' and '.join(names)}", names[0])
    least = -1.0 if search.method == "dense" else 0.0
    everything = replace(search, minimum_score=least, relevance=None, per_entity=False, k=1)
    nearest = next(iter(find(base, everything, defaults)), None)
    if nearest is None:
        return NothingFound("no caption has any word of the query", "query")
    shown = f"the nearest is {nearest.pair.caption!r} ({nearest.pair.id})"
    if search.minimum_score is not None and nearest.score < search.minimum_score:
        reason = f"no pair scores {search.minimum_score:g}; {shown}, which scores {nearest.score:.3f}"
        return NothingFound(f"{reason}: lower minimum_score to include it", "minimum_score", nearest)
    relevance, cosine = in_force(base, search, defaults)
    if search.method == "dense":
        reason = f"no pair reaches cosine {cosine:.3f}; {shown}, cosine {nearest.score:.3f}"
        return NothingFound(f"{reason}: set minimum_score to include it", "minimum_score", nearest)
    caption_terms = set(base.index.terms(nearest.pair.caption))
    entities = [entity for entity in base.index.entities(search.query).named if not entity.is_named_by(caption_terms)]
    if entities:
        lacking = tuple(dict.fromkeys(word for entity in entities for word in entity.main_words))
        missing = " or ".join(map(repr, lacking))
        reason = f"no caption names {missing}; {shown}, which does not: set relevance to any to include it"
        return NothingFound(reason, "relevance", nearest, lacking)
    phrases = " or ".join(repr(entity.text) for entity in base.index.entities(search.query).named)
    easier = "entity" if relevance == "phrase" else "any"
    reason = f"no caption has every word of {phrases}; {shown}: set relevance to {easier} to include it"
    return NothingFound(reason, "relevance", nearest)
