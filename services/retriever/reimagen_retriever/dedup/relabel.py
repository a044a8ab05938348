"""Which pairs are near-duplicates of which, after pairs were added, replaced or removed.

The marks are those that a build makes of the same pairs in the order in which they were taken in: a pair is marked that
nearly shows the image of an earlier one which is not marked itself. A pair that is added comes last, and so does one
that is replaced. Where an original goes, the first of those that showed it again becomes one, and so on: whatever this
may change comes later, so pairs are looked at in their order, each once.
"""

import heapq
from collections.abc import Iterable, Mapping
from typing import Protocol

from reimagen_retriever.dedup.fingerprint_index import KeptFingerprints, Near
from reimagen_retriever.index.filters import NO_FILTER, Filters
from reimagen_retriever.knowledge_base.pair import StoredPair


class Index(Protocol):
    """What `BM25Index` knows of the pairs as the last commit has them."""

    def pairs_of(self, ids: list[str], filters: Filters) -> dict[str, StoredPair]:
        """See `PairIndex`."""

    def duplicates_of(self, identifier: str) -> list[StoredPair]:
        """See `PairIndex`."""


def marked(
    index: Index,
    kept: KeptFingerprints,
    before: Mapping[str, StoredPair | None],
    after: Mapping[str, StoredPair | None],
) -> dict[str, StoredPair | None]:
    """What changes of a base, with marks: `after`, and pairs whose marks change with it.

    Args:
        index: Of the base as it was.
        kept: Fingerprints of all images, those of `after` too.
        before: What changes, by ids; None stands for no pair.
        after: What it becomes, with no marks.
    """
    now = _Now(index, after)
    waiting: list[Near] = [(pair.position, pair.id) for pair in after.values() if pair]
    for identifier, pair in before.items():
        if pair and not pair.duplicate_of:
            waiting += now.duplicates_of(identifier)
    heapq.heapify(waiting)
    looked_at = set[str]()
    while waiting:
        position, identifier = heapq.heappop(waiting)
        pair = now.at(position, identifier)
        if pair is None or identifier in looked_at:
            continue
        looked_at.add(identifier)
        new = after.get(identifier) is not None
        fingerprint = kept.of(position)
        original = now.first_original(kept.near(fingerprint), position) if fingerprint else ""
        if original != pair.duplicate_of:
            now.put(pair.model_copy(update={"duplicate_of": original}))
        if fingerprint and not original and (new or pair.duplicate_of):
            for other in now.whose_first_original_is_later(kept.near(fingerprint, position), position):
                heapq.heappush(waiting, other)
        if original and not new and not pair.duplicate_of:
            for other in now.duplicates_of(identifier):
                heapq.heappush(waiting, other)
    return now.changed


class _Now:
    """The pairs as they are to be."""

    def __init__(self, index: Index, after: Mapping[str, StoredPair | None]) -> None:
        self._index = index
        self.changed = dict(after)
        self._read: dict[str, StoredPair | None] = {}

    def put(self, pair: StoredPair) -> None:
        self.changed[pair.id] = pair

    def at(self, position: int, identifier: str) -> StoredPair | None:
        """The pair of that id, if it is the one whose image is there."""
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

    def whose_first_original_is_later(self, near: Iterable[list[Near]], position: int) -> list[Near]:
        """Of what is near a pair that is an original now, what it may be the first original of."""
        found = []
        for some in near:
            pairs = self._get([identifier for _, identifier in some])
            originals = self._get([pair.duplicate_of for pair in pairs.values() if pair and pair.duplicate_of])
            for its_place, identifier in some:
                pair = pairs[identifier]
                if pair is None or pair.position != its_place:
                    continue
                original = originals[pair.duplicate_of] if pair.duplicate_of else pair
                if original and original.position > position:
                    found.append((its_place, identifier))
        return found

    def _get(self, ids: Iterable[str]) -> dict[str, StoredPair | None]:
        wanted = dict.fromkeys(ids)
        unknown = [each for each in wanted if each not in self.changed and each not in self._read]
        if unknown:  # Often there is nothing near, and Java has searches to do.
            there = self._index.pairs_of(unknown, NO_FILTER)
            self._read.update((each, there.get(each)) for each in unknown)
        return {each: self.changed[each] if each in self.changed else self._read[each] for each in wanted}
