"""From a query to its neighbors: checks, cache, index, images; and changes of the base."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from reimagen_common import tracing
from reimagen_common.errors import InvalidArgument, NotFound
from reimagen_common.single_flight import SingleFlight
from reimagen_retriever import metrics
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.cache import AnswerCache, CacheState
from reimagen_retriever.index.bm25 import Relevance
from reimagen_retriever.index.hits import Hit
from reimagen_retriever.knowledge_base.checks import refuse_bad_id
from reimagen_retriever.knowledge_base.manifest import Manifest
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair, StoredPair
from reimagen_retriever.live.groups import Rejections, checked_groups
from reimagen_retriever.live.queue import WriteQueue
from reimagen_retriever.live.vectors import refuse_without_encoder, with_vectors
from reimagen_retriever.live.writer import Outcome, Remove
from reimagen_retriever.nothing_found import NothingFound, why
from reimagen_retriever.search import Defaults, Explanation, Search, explain, find
from reimagen_retriever.search import key as search_key
from reimagen_retriever.served_base import ServedBase, not_open

MAXIMUM_SEARCHES = 64
MAXIMUM_ANSWER_BYTES = 64 * 1024 * 1024  # of the images in one answer
MAXIMUM_DELETED = 10_000
_IMAGES_AT_ONCE = 32  # are asked for of an object store, whose images take as long one by one as many at once
_logger = logging.getLogger(__name__)
_HITS = TypeAdapter(list[Hit])


@dataclass(frozen=True)
class FoundPair:
    """A pair with its image, or with b'' where the image was not asked for."""

    pair: StoredPair
    image: bytes
    score: float = 0.0
    explanation: Explanation | None = None


@dataclass(frozen=True)
class Answer:
    """What a search found."""

    neighbors: Sequence[FoundPair]
    revision: str
    cached: bool
    nothing_found: NothingFound | None = None
    """Why there are no neighbors, where there are none."""


@dataclass(frozen=True)
class Added:
    """What became of pairs that were sent."""

    added: int
    updated: int
    """Took the place of the pair that had their id."""
    unchanged: int
    """Were there already, just so."""
    rejected: Sequence[Rejected]
    """Those that could not be taken, the first 1,000 of them."""
    rejected_count: int
    revision: str
    """One in which all of this is seen."""


@dataclass(frozen=True)
class Deleted:
    """What became of ids that were to be removed."""

    removed: int
    unknown: Sequence[str]
    """No pair had these."""
    revision: str
    """One in which all of this is seen."""


@dataclass(frozen=True)
class Description:
    """What is being served, and how the service is doing."""

    manifest: Manifest
    defaults: Defaults
    cache: CacheState


class RetrievalService:
    """Searches a knowledge base; safe to use from many threads.

    What it adds and removes is found before the caller is told; what others change, see `ServedBase`.

    Args:
        folder: The knowledge base.
        cache: Where answers are kept.
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
        # Never shut down, for a search under way when this is closed: its threads end when nobody has it any longer.
        self._images = ThreadPoolExecutor(_IMAGES_AT_ONCE, thread_name_prefix="images")

    def open(self, address: str = "") -> None:
        """Opens the base and warms it up; until then every call is answered Unavailable.

        Args:
            address: host:port where this service can be asked for changes, for those who find the base locked by it.

        Raises:
            NotFound: there is no complete knowledge base in the folder.
            ReimagenError: it is broken or damaged.
        """
        self._served.open()
        self._writes = WriteQueue(self._folder, address, self._served.refresh)
        if self._cache.state() == "off":
            _logger.warning("no Redis is configured: every search goes to the index")

    def search(self, search: Search) -> Answer:
        """The neighbors of a query.

        Raises:
            InvalidArgument: the search is beyond its limits.
            Unavailable: the base is not open yet.
        """
        search.check()
        with self._served.current() as base:
            return self._answers(base, [search])[0]

    def batch_search(self, searches: Sequence[Search]) -> list[Answer]:
        """The answers to several searches, all from the same revision.

        Raises:
            InvalidArgument: a search is beyond its limits, or the images are too much for one answer.
            Unavailable: the base is not open yet.
        """
        if not 1 <= len(searches) <= MAXIMUM_SEARCHES:
            raise InvalidArgument(f"must be 1 to {MAXIMUM_SEARCHES}, got {len(searches):,}", field="searches")
        for number, search in enumerate(searches):
            search.check(f"searches[{number}].")
        with self._served.current() as base:
            return self._answers(base, searches)

    def get_pair(self, identifier: str, *, omit_image: bool = False) -> FoundPair:
        """One pair by its id.

        Raises:
            InvalidArgument: it can't be an id.
            NotFound: no pair has it.
            Unavailable: the base is not open yet.
        """
        refuse_bad_id(identifier, "id")
        with self._served.current() as base:
            pair = base.index.get(identifier)
            if pair is None:
                raise NotFound(f"no pair of the knowledge base has the id {identifier!r}", field="id")
            return FoundPair(pair, b"" if omit_image else base.images.read(pair))

    def add_pairs(self, entries: Iterable[SourcePair | Rejected]) -> Added:
        """Adds pairs, in place of those that have their ids; when it returns they are safe on disk and found.

        They are taken in as they come, in groups: should this fail halfway, or the process be killed, some are there
        and others not, and all may be sent again: pairs that are there already are left as they are.

        Args:
            entries: Pairs, which are checked as a build checks them, and what its sender found wrong with others.

        Raises:
            InvalidArgument: the base has vectors, and its encoder is not here to make those of the pairs.
            Unavailable: the base is not open, or cannot be written to now: the disk is full, another process writes...
            ReimagenError: the base is damaged.
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
        """Removes pairs by their ids, all in one step; when it returns no search finds them, nor will after a crash.

        Raises:
            InvalidArgument: there are none or more than 10,000 ids, or one can't be an id.
            Unavailable: the base is not open, or cannot be written to now.
            ReimagenError: the base is damaged.
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
        """What is being served.

        Raises:
            Unavailable: the base is not open yet.
        """
        with self._served.current() as base:
            return Description(base.manifest, self._defaults, self._cache.state())

    def degraded_reasons(self) -> list[str]:
        """What is missing although it serves: Redis, a base that is readable and undamaged, its images.

        Asks Redis, looks for a new build, and reads files that have changed.

        Raises:
            Unavailable: the base is not open.
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
        """Closes the base and the cache; changes and calls under way end first."""
        if self._writes:
            self._writes.close()
        self._served.close()
        self._cache.close()

    def _answers(self, base: KnowledgeBase, searches: Sequence[Search]) -> list[Answer]:
        found = [self._found(base, search) for search in searches]
        wanted = [
            hit.pair
            for search, (hits, _) in zip(searches, found, strict=True)
            if not search.omit_images
            for hit in hits
        ]
        if sum(pair.length for pair in wanted) > MAXIMUM_ANSWER_BYTES:
            raise InvalidArgument(
                "their images are too large for one answer; send fewer at once, or set omit_images", field="searches"
            )
        with tracing.span("images", {"count": len(wanted)}):
            if base.images.remote and len(wanted) > 1:
                images = iter(list(self._images.map(base.images.read, wanted)))
            else:
                images = iter([base.images.read(pair) for pair in wanted])
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
            reason = None if hits else why(base, search, self._defaults)
            answers.append(Answer(neighbors, base.manifest.revision, cached, reason))
        return answers

    def _found(self, base: KnowledgeBase, search: Search) -> tuple[list[Hit], bool]:
        key = search_key(base, search, self._defaults)
        return self._flights.do(key, lambda: self._hits(base, search, key))

    def _hits(self, base: KnowledgeBase, search: Search, key: str) -> tuple[list[Hit], bool]:
        kept = self._cache.get(key)
        if kept is not None:
            try:
                return _HITS.validate_json(kept), True
            except ValidationError:
                _logger.warning("the cache holds something that is no answer", extra={"key": key})
        if search.method != "bm25":
            self._served.refuse_damaged_vectors(base)
        metrics.INDEX_SEARCHES.inc()
        with tracing.span("index"):
            hits = find(base, search, self._defaults)
        self._cache.put(key, _HITS.dump_json(hits))
        return hits, False

    def _writing(self) -> WriteQueue:
        if self._writes is None:
            raise not_open()
        return self._writes

    def _revision(self) -> str:
        with self._served.current() as base:
            return base.manifest.revision
