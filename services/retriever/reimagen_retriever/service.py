"""From a query to its neighbors: checks, cache, index, pictures; and the base replaced while it is served."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from reimagen_common import tracing
from reimagen_common.errors import InvalidArgument, NotFound, ReimagenError, Unavailable
from reimagen_retriever import metrics
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.cache import AnswerCache, CacheState, SingleFlight
from reimagen_retriever.index.bm25 import Hit
from reimagen_retriever.knowledge_base.checks import refuse_bad_id
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.manifest import Manifest, manifest_stamp
from reimagen_retriever.knowledge_base.pair import Rejected, SourcePair, StoredPair
from reimagen_retriever.live.groups import Rejections, checked_groups
from reimagen_retriever.live.queue import WriteQueue
from reimagen_retriever.live.writer import Outcome, Remove
from reimagen_retriever.search import DEFAULT_K, Explanation, Minima, Search, explain, find
from reimagen_retriever.search import key as search_key

MAXIMUM_SEARCHES = 64
MAXIMUM_ANSWER_BYTES = 64 * 1024 * 1024  # of the pictures in one answer
MAXIMUM_DELETED = 10_000
# What another process has added or removed is looked for so often, even if it was killed before it could tell.
_REFRESH_SECONDS = 0.25
_DAMAGED_SECONDS = 10.0

_WARMING = "a picture of a red panda in the snow"
_logger = logging.getLogger(__name__)
_HITS = TypeAdapter(list[Hit])


@dataclass(frozen=True)
class FoundPair:
    """A pair with its picture, or with b'' where the picture was not asked for."""

    pair: StoredPair
    image: bytes
    score: float = 0.0
    explanation: Explanation | None = None


@dataclass(frozen=True)
class Answer:
    """What a search found."""

    neighbors: Sequence[FoundPair]
    generation: str
    cached: bool


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
    generation: str
    """One in which all of this is seen."""


@dataclass(frozen=True)
class Deleted:
    """What became of ids that were to be removed."""

    removed: int
    unknown: Sequence[str]
    """No pair had these."""
    generation: str
    """One in which all of this is seen."""


@dataclass(frozen=True)
class Description:
    """What is being served, and how the service is doing."""

    manifest: Manifest
    minima: Minima
    cache: CacheState


class Retriever:
    """Searches a knowledge base; safe to use from many threads.

    When a build replaces the base, the next search is answered from the new one; what another process adds or removes
    is seen within a second, and what this one does before the caller is told. Searches under way end on the old.

    Args:
        folder: The knowledge base.
        cache: Where answers are kept.
        minimum_overlap: 0 to 1, see `Minima`.
        minimum_cosine: -1 to 1, see `Minima`.
        encoder: See `KnowledgeBase.open`.
    """

    def __init__(
        self,
        folder: Path,
        cache: AnswerCache,
        minimum_overlap: float,
        minimum_cosine: float | None = None,
        encoder: Path | None = None,
    ) -> None:
        self._folder = folder
        self._encoder = encoder
        self._cache = cache
        self._minima = Minima(minimum_overlap, minimum_cosine)
        self._flights = SingleFlight[tuple[list[Hit], bool]]()
        self._lock = threading.Lock()
        self._base: _Shared | None = None
        self._stamp: tuple[int, int] | None = None
        self._refreshing = threading.Lock()
        self._refresh_at = 0.0
        self._commit_mark = -1
        self._writes: WriteQueue | None = None
        self._unreadable: str | None = None

    def open(self, address: str = "") -> None:
        """Opens the base and warms it up; until then every call is answered Unavailable.

        Args:
            address: host:port where this service can be asked for changes, for those who find the base locked by it.

        Raises:
            NotFound: there is no finished knowledge base in the folder.
            ReimagenError: it is broken or damaged.
        """
        stamp = manifest_stamp(self._folder)
        base = _opened_warm(self._folder, self._encoder)
        with self._lock:
            self._base, self._stamp = _Shared(base), stamp
            self._writes = WriteQueue(self._folder, address, self._refresh)
        if self._cache.state() == "off":
            _logger.warning("no Redis is configured: every search goes to the index")

    def search(self, search: Search) -> Answer:
        """The neighbors of a query.

        Raises:
            InvalidArgument: the search is beyond its limits.
            Unavailable: the base is not open yet.
        """
        search.check()
        with self._current() as base:
            return self._answer(base, search)

    def batch_search(self, searches: Sequence[Search]) -> list[Answer]:
        """The answers to several searches, all from the same generation.

        Raises:
            InvalidArgument: a search is beyond its limits, or the pictures are too much for one answer.
            Unavailable: the base is not open yet.
        """
        if not 1 <= len(searches) <= MAXIMUM_SEARCHES:
            raise InvalidArgument(f"must be 1 to {MAXIMUM_SEARCHES}, got {len(searches):,}", field="searches")
        for number, search in enumerate(searches):
            search.check(f"searches[{number}].")
        answers = []
        size = 0
        with self._current() as base:
            for search in searches:
                answers.append(self._answer(base, search))
                size += sum(len(neighbor.image) for neighbor in answers[-1].neighbors)
                if size > MAXIMUM_ANSWER_BYTES:
                    raise InvalidArgument(
                        "their pictures are too large for one answer; send fewer at once, or set omit_images",
                        field="searches",
                    )
        return answers

    def get_pair(self, identifier: str, *, omit_image: bool = False) -> FoundPair:
        """One pair by its id.

        Raises:
            InvalidArgument: it can't be an id.
            NotFound: no pair has it.
            Unavailable: the base is not open yet.
        """
        refuse_bad_id(identifier, "id")
        with self._current() as base:
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
            Unavailable: the base is not open, or cannot be written to now: the disk is full, another process writes...
            ReimagenError: the base is damaged.
        """
        writes = self._writing()
        outcomes: Counter[Outcome] = Counter()
        rejections = Rejections()
        for changes in checked_groups(entries, rejections):
            outcomes.update(writes.apply(changes))
        return Added(
            added=outcomes[Outcome.ADDED],
            updated=outcomes[Outcome.UPDATED],
            unchanged=outcomes[Outcome.UNCHANGED],
            rejected=rejections.first,
            rejected_count=rejections.count,
            generation=self._generation(),
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
        return Deleted(removed=len(outcomes) - len(unknown), unknown=unknown, generation=self._generation())

    def describe(self) -> Description:
        """What is being served.

        Raises:
            Unavailable: the base is not open yet.
        """
        with self._current() as base:
            return Description(base.manifest, self._minima, self._cache.state())

    def complaints(self) -> list[str]:
        """What is missing although it serves: Redis, a readable base. Asks Redis, and looks for a new build.

        Raises:
            Unavailable: the base is not open.
        """
        with self._current():
            pass
        return [complaint for complaint in (self._cache.complaint(), self._unreadable) if complaint]

    def close(self) -> None:
        """Closes the base and the cache; changes and calls under way end first."""
        if self._writes:
            self._writes.close()
        with self._lock:
            if self._base:
                self._base.retire()
            self._base = None
        self._cache.close()

    def _answer(self, base: KnowledgeBase, search: Search) -> Answer:
        key = search_key(base, search, self._minima)
        hits, cached = self._flights.do(key, lambda: self._hits(base, search, key))
        with tracing.span("pictures", {"count": 0 if search.omit_images else len(hits)}):
            neighbors = [
                FoundPair(
                    hit.pair,
                    b"" if search.omit_images else base.images.read(hit.pair),
                    hit.score,
                    explain(base, search, hit) if search.explain else None,
                )
                for hit in hits
            ]
        return Answer(neighbors, base.manifest.generation, cached)

    def _hits(self, base: KnowledgeBase, search: Search, key: str) -> tuple[list[Hit], bool]:
        kept = self._cache.get(key)
        if kept is not None:
            try:
                return _HITS.validate_json(kept), True
            except ValidationError:
                _logger.warning("the cache holds something that is no answer", extra={"key": key})
        metrics.INDEX_SEARCHES.inc()
        with tracing.span("index"):
            hits = find(base, search, self._minima)
        self._cache.put(key, _HITS.dump_json(hits))
        return hits, False

    def _writing(self) -> WriteQueue:
        if self._writes is None:
            raise _not_open()
        return self._writes

    def _generation(self) -> str:
        with self._current() as base:
            return base.manifest.generation

    @contextmanager
    def _current(self) -> Iterator[KnowledgeBase]:
        serving = self._base
        if serving is not None:
            mark = serving.base.commit_mark()
            if mark != self._commit_mark or time.monotonic() >= self._refresh_at:
                self._refresh(mark)
        with self._lock:
            if self._base is None:
                raise _not_open()
            self._follow_a_new_build()
            shared = self._base
            shared.take()
        try:
            yield shared.base
        finally:
            shared.give_back()

    def _refresh(self, mark: int | None = None) -> None:
        """Goes over to what live writes, of this process or another, have made of the base.

        Args:
            mark: The commit's mark that made the caller ask; another thread may have been here since.
        """
        with self._refreshing:
            if mark is not None and mark == self._commit_mark and time.monotonic() < self._refresh_at:
                return
            self._refresh_at = time.monotonic() + _REFRESH_SECONDS
            with self._lock:
                self._follow_a_new_build()
                shared = self._base
                if shared is None:
                    return
                shared.take()
            try:
                self._commit_mark = shared.base.commit_mark()
                base = shared.base.refreshed()
            except DamagedError as error:
                if manifest_stamp(self._folder) != self._stamp:
                    return  # A new build has come meanwhile and has removed the old files.
                self._refresh_at += _DAMAGED_SECONDS
                _logger.error("live writes can't be read: serving what was before", exc_info=error)
                self._unreadable = f"the knowledge base has changed and can't be read: {error}"
                return
            finally:
                shared.give_back()
            if base is None:
                return
            with self._lock:
                if self._base is not shared:  # A new build has come meanwhile.
                    base.close()
                    return
                self._base = _Shared(base)
            shared.retire()
            _measure(base)

    def _follow_a_new_build(self) -> None:
        stamp = manifest_stamp(self._folder)
        if stamp == self._stamp or self._base is None:
            return
        self._stamp = stamp
        try:
            base = _opened_warm(self._folder, self._encoder)
        except ReimagenError as error:
            _logger.error("the knowledge base has changed and can't be opened: serving the old one", exc_info=error)
            self._unreadable = f"the knowledge base has changed and can't be opened: {error.message}"
            return
        self._unreadable = None
        self._base.retire()
        self._base = _Shared(base)


class _Shared:
    """A base that is closed once it has been retired and its last reader is done."""

    def __init__(self, base: KnowledgeBase) -> None:
        self.base = base
        self._holders = 1
        self._lock = threading.Lock()

    def take(self) -> None:
        with self._lock:
            self._holders += 1

    def give_back(self) -> None:
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self.base.close()

    retire = give_back


def _opened_warm(folder: Path, encoder: Path | None) -> KnowledgeBase:
    base = KnowledgeBase.open(folder, encoder)
    # Java compiles as it runs: without this the first callers would wait for it.
    for _ in range(20):
        base.index.search(_WARMING, DEFAULT_K, 0.0, 0.0)
    if base.dense:
        try:
            base.dense.search(_WARMING, DEFAULT_K, -1.0)
        except InvalidArgument as error:
            _logger.warning("searches by BM25 alone", extra={"error": error.message})
    _measure(base)
    _logger.info("serving", extra={"generation": base.manifest.generation, "pairs": base.manifest.pairs})
    return base


def _measure(base: KnowledgeBase) -> None:
    metrics.PAIRS.set(base.manifest.pairs)
    metrics.GENERATIONS.inc()
    metrics.GENERATION_SINCE.set_to_current_time()


def _not_open() -> Unavailable:
    return Unavailable("the knowledge base is not open; try again in a moment", retry_after=1.0)
