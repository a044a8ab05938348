"""The retrieval service: searches (validation, cache, index, images) and changes of the base."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from reimagen_common import tracing
from reimagen_common.errors import InvalidArgument, NotFound
from reimagen_common.single_flight import SingleFlight
from reimagen_retriever import metrics
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.cache import AnswerCache
from reimagen_retriever.index.bm25 import Relevance
from reimagen_retriever.index.hits import Hit
from reimagen_retriever.knowledge_base.checks import refuse_bad_id
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair
from reimagen_retriever.live.groups import Rejections, checked_groups
from reimagen_retriever.live.queue import WriteQueue
from reimagen_retriever.live.vectors import refuse_without_encoder, with_vectors
from reimagen_retriever.live.writer import Outcome, Remove
from reimagen_retriever.nothing_found import explain_empty
from reimagen_retriever.results import Added, Answer, Deleted, Description, FoundPair, Listing
from reimagen_retriever.search import Defaults, Search, explain, find_all
from reimagen_retriever.search import key as search_key
from reimagen_retriever.served_base import ServedBase, not_open

MAXIMUM_SEARCHES = 64
MAXIMUM_ANSWER_BYTES = 64 * 1024 * 1024  # total size of the images in one answer
MAXIMUM_DELETED = 10_000
MAXIMUM_LISTED = 100
_IMAGES_AT_ONCE = 32  # parallel reads of an object store, where one image takes as long as many in parallel
_logger = logging.getLogger(__name__)
_HITS = TypeAdapter(list[Hit])


class RetrievalService:
    """Searches and changes of a knowledge base. Safe to use from many threads.

    Changes through this service are visible to searches before the call returns. For changes by other processes, see
    `ServedBase`.

    Args:
        folder: The folder of the knowledge base.
        cache: The cache of answers.
        relevance: See `Defaults`.
        minimum_cosine: -1 to 1, see `Defaults`.
        encoder: See `KnowledgeBase.open`.
    """

    def __init__(
        self,
        folder: Path,
        cache: AnswerCache,
        relevance: Relevance,
        minimum_cosine: float | None = None,
        encoder: Path | None = None,
    ) -> None:
        self._folder = folder
        self._served = ServedBase(folder, encoder)
        self._cache = cache
        self._defaults = Defaults(relevance, minimum_cosine)
        self._flights = SingleFlight[tuple[list[Hit], bool]]()
        self._writes: WriteQueue | None = None
        # Never shut down, because a search may still be running at `close`. Its threads end with the last reference.
        self._images = ThreadPoolExecutor(_IMAGES_AT_ONCE, thread_name_prefix="images")

    def open(self, address: str = "") -> None:
        """Open the base and warm it up. Until then every request fails with Unavailable.

        Args:
            address: host:port of this service. It is shown to other processes that find the base locked.

        Raises:
            NotFound: The folder holds no complete knowledge base.
            ReimagenError: The base is broken or damaged.
        """
        self._served.open()
        self._writes = WriteQueue(self._folder, address, self._served.refresh)
        if self._cache.state() == "off":
            _logger.warning("no Redis is configured: every search goes to the index")

    def search(self, search: Search) -> Answer:
        """Return the neighbors of a query.

        Raises:
            InvalidArgument: A field of the search is out of range.
            Unavailable: The base is not open yet.
        """
        search.check()
        with self._served.current() as base:
            return self._answers(base, [search])[0]

    def batch_search(self, searches: Sequence[Search]) -> list[Answer]:
        """Return the answers to several searches, all from the same revision.

        Raises:
            InvalidArgument: A field of a search is out of range, or the images are too large for one answer.
            Unavailable: The base is not open yet.
        """
        if not 1 <= len(searches) <= MAXIMUM_SEARCHES:
            raise InvalidArgument(f"must be 1 to {MAXIMUM_SEARCHES}, got {len(searches):,}", field="searches")
        for number, search in enumerate(searches):
            search.check(f"searches[{number}].")
        with self._served.current() as base:
            return self._answers(base, searches)

    def get_pair(self, identifier: str, *, omit_image: bool = False) -> FoundPair:
        """Return a pair by its id.

        Raises:
            InvalidArgument: The id is not valid.
            NotFound: No pair has the id.
            Unavailable: The base is not open yet.
        """
        refuse_bad_id(identifier, "id")
        with self._served.current() as base:
            pair = base.index.get(identifier)
            if pair is None:
                raise NotFound(f"no pair of the knowledge base has the id {identifier!r}", field="id")
            return FoundPair(pair, b"" if omit_image else base.images.read(pair))

    def list_pairs(self, limit: int, *, after: str = "", at_random: bool = False) -> Listing:
        """Return pairs in the byte order of their ids, or random pairs.

        Args:
            limit: Maximum number of pairs.
            after: An id; only pairs with later ids are returned. Empty returns the first ones.
            at_random: Whether to choose the pairs at random, without an order.

        Raises:
            InvalidArgument: The limit is not 1 to 100, or `after` is set for random pairs or not valid.
            Unavailable: The base is not open yet.
        """
        if not 1 <= limit <= MAXIMUM_LISTED:
            raise InvalidArgument(f"must be 1 to {MAXIMUM_LISTED}, got {limit:,}", field="limit")
        if after and at_random:
            raise InvalidArgument("must be unset for random pairs, which have no order", field="after")
        if after:
            refuse_bad_id(after, "after")
        with self._served.current() as base:
            pairs = base.index.sample(limit) if at_random else base.index.following(after, limit + 1)
            has_more = not at_random and len(pairs) > limit
            return Listing(pairs[:limit], has_more, base.index.pairs, base.manifest.revision)

    def add_pairs(self, entries: Iterable[SourcePair | Rejected]) -> Added:
        """Add pairs and replace those with the same ids. On return they are safe on disk and visible to searches.

        Pairs are added in groups as they arrive. After a failure or a crash, some pairs may be present and others not.
        It is safe to send all of them again: pairs that are already present stay unchanged.

        Args:
            entries: The pairs, which are validated as in a build, and entries that the sender has already rejected.

        Raises:
            InvalidArgument: The base has vectors, and its encoder is missing.
            Unavailable: The base is not open or cannot be written to: the disk is full, another process writes...
            ReimagenError: The base is damaged.
        """
        writes = self._writing()
        outcomes: Counter[Outcome] = Counter()
        rejections = Rejections()
        with self._served.current() as base:
            refuse_without_encoder(base)
        for group in checked_groups(entries, rejections):
            with self._served.current() as base:
                changes = with_vectors(base, group, rejections)
            outcomes.update(writes.apply(changes))
        return Added(
            added=outcomes[Outcome.ADDED],
            updated=outcomes[Outcome.UPDATED],
            unchanged=outcomes[Outcome.UNCHANGED],
            rejected=rejections.first,
            rejected_count=rejections.count,
            revision=self._revision(),
        )

    def delete_pairs(self, ids: Sequence[str]) -> Deleted:
        """Remove pairs by their ids in one atomic step. On return the removal is safe on disk and visible to searches.

        Raises:
            InvalidArgument: There are no ids or more than 10,000, or one is not valid.
            Unavailable: The base is not open or cannot be written to.
            ReimagenError: The base is damaged.
        """
        if not 1 <= len(ids) <= MAXIMUM_DELETED:
            raise InvalidArgument(f"must be 1 to {MAXIMUM_DELETED:,}, got {len(ids):,}", field="ids")
        for number, identifier in enumerate(ids):
            refuse_bad_id(identifier, f"ids[{number}]")
        outcomes = self._writing().apply([Remove(identifier) for identifier in dict.fromkeys(ids)])
        unknown = [
            identifier
            for identifier, outcome in zip(dict.fromkeys(ids), outcomes, strict=True)
            if outcome is Outcome.UNKNOWN
        ]
        return Deleted(removed=len(outcomes) - len(unknown), unknown=unknown, revision=self._revision())

    def describe(self) -> Description:
        """Return what is being served.

        Raises:
            Unavailable: The base is not open yet.
        """
        with self._served.current() as base:
            return Description(base.manifest, self._defaults, self._cache.state())

    def degraded_reasons(self) -> list[str]:
        """Return the reasons why the service is degraded: Redis is down, or the base or its images are unreadable.

        Queries Redis, checks for a new build, and reads files that have changed.

        Raises:
            Unavailable: The base is not open.
        """
        with self._served.current() as base:
            degraded_reasons = (
                self._cache.degraded_reason(),
                self._served.unreadable,
                self._served.damage(base),
                base.images.degraded_reason(),
            )
        return [degraded_reason for degraded_reason in degraded_reasons if degraded_reason]

    def close(self) -> None:
        """Close the base and the cache after the changes and requests in progress have finished."""
        if self._writes:
            self._writes.close()
        self._served.close()
        self._cache.close()

    def _answers(self, base: KnowledgeBase, searches: Sequence[Search]) -> list[Answer]:
        keys = [search_key(base, search, self._defaults) for search in searches]
        by_key = dict(zip(keys, searches, strict=True))
        found = self._flights.do_all(keys, lambda own: self._cached_or_found(base, {key: by_key[key] for key in own}))
        pairs = [
            hit.pair
            for search, (hits, _) in zip(searches, found, strict=True)
            if not search.omit_images
            for hit in hits
        ]
        if sum(pair.length for pair in pairs) > MAXIMUM_ANSWER_BYTES:
            raise InvalidArgument(
                "the images are too large for one answer; send fewer searches, or set omit_images", field="searches"
            )
        with tracing.span("images", {"count": len(pairs)}):
            if base.images.remote and len(pairs) > 1:
                images = iter(list(self._images.map(base.images.read, pairs)))
            else:
                images = iter([base.images.read(pair) for pair in pairs])
        answers = []
        for search, (hits, cached) in zip(searches, found, strict=True):
            neighbors = [
                FoundPair(
                    hit.pair,
                    b"" if search.omit_images else next(images),
                    hit.score,
                    explain(base, search, hit) if search.explain else None,
                )
                for hit in hits
            ]
            reason = None if hits else explain_empty(base, search, self._defaults)
            answers.append(Answer(neighbors, base.manifest.revision, cached, reason))
        return answers

    def _cached_or_found(self, base: KnowledgeBase, searches: Mapping[str, Search]) -> list[tuple[list[Hit], bool]]:
        """Return the hits of each search by its key, and whether they were cached."""
        cached = {key: self._cached(key) for key in searches}
        missing = {key: search for key, search in searches.items() if cached[key] is None}
        found = dict[str, list[Hit]]()
        if missing:
            if any(search.method != "bm25" for search in missing.values()):
                self._served.refuse_damaged_vectors(base)
            metrics.INDEX_SEARCHES.inc(len(missing))
            with tracing.span("index", {"count": len(missing)}):
                hits = find_all(base, list(missing.values()), self._defaults)
            found = dict(zip(missing, hits, strict=True))
            for key, its_hits in found.items():
                self._cache.put(key, _HITS.dump_json(its_hits))
        return [(found[key], False) if hits is None else (hits, True) for key, hits in cached.items()]

    def _cached(self, key: str) -> list[Hit] | None:
        cached = self._cache.get(key)
        if cached is not None:
            try:
                return _HITS.validate_json(cached)
            except ValidationError:
                _logger.warning("ignoring an invalid cache entry", extra={"key": key})
        return None

    def _writing(self) -> WriteQueue:
        if self._writes is None:
            raise not_open()
        return self._writes

    def _revision(self) -> str:
        with self._served.current() as base:
            return base.manifest.revision
