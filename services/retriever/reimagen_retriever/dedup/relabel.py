"""Updates of near-duplicate marks after pairs were added, replaced or removed.

The marks are those that a build would make of the same pairs in the order in which they were stored: a pair is marked
if its image is a near-duplicate of an earlier original, that is, of a pair that is not marked. Added and replaced pairs
come last. When an original is removed, the first of its near-duplicates becomes an original, which may change later
pairs in turn. A change affects only later pairs, so each pair is visited once, in order.
"""

import heapq
from collections.abc import Iterable, Mapping
from typing import Protocol

from reimagen_retriever.dedup.fingerprint_index import KeptFingerprints, Near
from reimagen_retriever.index.filters import NO_FILTER, Filters
from reimagen_retriever.knowledge_base.pair import StoredPair


class Index(Protocol):
    """The part of `BM25Index` that gives the pairs of the last commit."""

    def pairs_of(self, ids: list[str], filters: Filters) -> dict[str, StoredPair]:
        """Return pairs by their ids, see `PairIndex`."""

    def duplicates_of(self, identifier: str) -> list[StoredPair]:
        """Return the near-duplicates of a pair, see `PairIndex`."""


def marked(
    index: Index,
    fingerprints: KeptFingerprints,
    before: Mapping[str, StoredPair | None],
    after: Mapping[str, StoredPair | None],
) -> dict[str, StoredPair | None]:
    """Return all changes of a base with marks: those in `after`, and other pairs whose marks change.

    Args:
        index: Index of the base before the changes.
        fingerprints: Fingerprints of all images, including those of `after`.
        before: Changed pairs before the change, by id; None means no pair.
        after: Changed pairs after the change, without marks; None means no pair.
    """
    state = _State(index, after)
    waiting: list[Near] = [(pair.position, pair.id) for pair in after.values() if pair]
    for identifier, pair in before.items():
        if pair and not pair.duplicate_of:
            waiting += state.duplicates_of(identifier)
    heapq.heapify(waiting)
    visited = set[str]()
    while waiting:
        position, identifier = heapq.heappop(waiting)
        pair = state.at(position, identifier)
        if pair is None or identifier in visited:
            continue
        visited.add(identifier)
        new = after.get(identifier) is not None
        fingerprint = fingerprints.of(position)
        original = state.first_original(fingerprints.near(fingerprint), position) if fingerprint else ""
        if original != pair.duplicate_of:
            state.put(pair.model_copy(update={"duplicate_of": original}))
        if fingerprint and not original and (new or pair.duplicate_of):
            for other in state.with_later_original(fingerprints.near(fingerprint, position), position):
                heapq.heappush(waiting, other)
        if original and not new and not pair.duplicate_of:
            for other in state.duplicates_of(identifier):
                heapq.heappush(waiting, other)
    return state.changed


class _State:
    """The pairs after the changes."""

    def __init__(self, index: Index, after: Mapping[str, StoredPair | None]) -> None:
        self._index = index
        self.changed = dict(after)
        self._read: dict[str, StoredPair | None] = {}

    def put(self, pair: StoredPair) -> None:
        self.changed[pair.id] = pair

    def at(self, position: int, identifier: str) -> StoredPair | None:
        """Return the pair of that id if its image is at that position."""
        pair = self._get([identifier])[identifier]
        return pair if pair and pair.position == position else None

    def duplicates_of(self, identifier: str) -> list[Near]:
        unchanged = (pair for pair in self._index.duplicates_of(identifier) if pair.id not in self.changed)
        changed = (pair for pair in self.changed.values() if pair and pair.duplicate_of == identifier)
        return [(pair.position, pair.id) for each in (unchanged, changed) for pair in each]

    def first_original(self, near: Iterable[list[Near]], before: int) -> str:
        for some in near:
            pairs = self._get([identifier for _, identifier in some])
            for position, identifier in some:
                if position >= before:
                    return ""
                pair = pairs[identifier]
                if pair and pair.position == position and not pair.duplicate_of:
                    return identifier
        return ""

    def with_later_original(self, near: Iterable[list[Near]], position: int) -> list[Near]:
        """Return the near-duplicates of a new original at `position` whose current original comes after it."""
        found = []
        for some in near:
            pairs = self._get([identifier for _, identifier in some])
            originals = self._get([pair.duplicate_of for pair in pairs.values() if pair and pair.duplicate_of])
            for its_position, identifier in some:
                pair = pairs[identifier]
                if pair is None or pair.position != its_position:
                    continue
                original = originals[pair.duplicate_of] if pair.duplicate_of else pair
                if original and original.position > position:
                    found.append((its_position, identifier))
        return found

    def _get(self, ids: Iterable[str]) -> dict[str, StoredPair | None]:
        requested = dict.fromkeys(ids)
        unknown = [each for each in requested if each not in self.changed and each not in self._read]
        if unknown:  # Often nothing is near, and a call into Java is slow.
            found = self._index.pairs_of(unknown, NO_FILTER)
            self._read.update((each, found.get(each)) for each in unknown)
        return {each: self.changed[each] if each in self.changed else self._read[each] for each in requested}
