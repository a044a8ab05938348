"""Near-duplicates in different bases: each base has marks for its own images alone."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from reimagen_common.errors import Damaged
from reimagen_common.progress import progress_bar
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.dedup.fingerprint_index import ADDED, AddedFingerprints, KeptFingerprints
from reimagen_retriever.index.filters import NO_FILTER
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.pair import StoredPair

_AT_ONCE = 1_000


def duplicates_across(parts: Sequence[Path]) -> dict[str, str]:
    """Of pairs that are no near-duplicates in their own base, those whose images nearly show one of an earlier base.

    As within a base, what is a near-duplicate itself stands for nothing. A base that was built before fingerprints were
    kept, or whose images are in an object store, is as good as empty.

    Args:
        parts: Knowledge bases, of which no two have an id in common.

    Returns:
        The ids of such pairs, and for each the id of the first pair that it nearly shows.

    Raises what `KnowledgeBase.open` raises.
    """
    found: dict[str, str] = {}
    with ExitStack() as opened:
        earlier: list[_Part] = []
        for folder in parts:
            part = _Part(folder)
            opened.callback(part.close)
            with progress_bar(part.pairs if earlier else 0, f"comparing {folder}", "pairs") as progress:
                for pairs in part.in_groups() if earlier else ():
                    for pair in pairs:
                        fingerprint = None if pair.duplicate_of else part.kept.of(pair.position)
                        if fingerprint:
                            originals = chain.from_iterable(each.originals(fingerprint, found) for each in earlier)
                            original = next(originals, None)
                            if original is not None:
                                found[pair.id] = original
                    progress.update(len(pairs))
            earlier.append(part)
    return found


class _Part:
    def __init__(self, folder: Path) -> None:
        self._base = KnowledgeBase.open(folder, dense=False)
        self.close = self._base.close
        self.pairs = self._base.manifest.pairs
        # What is kept here of a base in an object store is without fingerprints.
        here = self._base.built.store is None
        added = AddedFingerprints(folder / self._base.built.folder)
        try:
            added.read(self._base.appended.get(ADDED, 0) if here else 0)
            self.kept = KeptFingerprints(added, built=bool(self._base.built.fingerprints) and here)
        except DamagedError as error:
            self._base.close()
            raise Damaged(f"{folder} is damaged, `verify` tells more: {error}") from error

    def in_groups(self) -> Iterator[list[StoredPair]]:
        """All pairs, in the order of their positions."""
        documents = self._base.index.in_order()
        for start in range(0, len(documents), _AT_ONCE):
            yield self._base.index.read(documents[start : start + _AT_ONCE])

    def originals(self, fingerprint: bytes, duplicates: dict[str, str]) -> Iterator[str]:
        """The ids of pairs whose images one nearly shows, and that are near-duplicates of none, in their order."""
        for near in self.kept.near(fingerprint):
            pairs = self._base.index.pairs_of([identifier for _, identifier in near], NO_FILTER) if near else {}
            for position, identifier in near:
                pair = pairs.get(identifier)
                if pair and pair.position == position and not pair.duplicate_of and identifier not in duplicates:
                    yield identifier
