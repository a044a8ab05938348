"""Near-duplicates across bases; the marks within a base cover only its own images."""

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

_BATCH_PAIRS = 1_000


def duplicates_across(parts: Sequence[Path]) -> dict[str, str]:
    """Find pairs whose image is a near-duplicate of one in an earlier base.

    Only pairs that are originals in their own base are compared, and only with originals. A base counts as empty if it
    was built before fingerprints were stored, or if its images are in an object store.

    Args:
        parts: Knowledge bases, of which no two have an id in common.

    Returns:
        The ids of such pairs, each with the id of its first original.

    Raises the same errors as `KnowledgeBase.open`.
    """
    found: dict[str, str] = {}
    with ExitStack() as opened:
        earlier: list[_Part] = []
        for folder in parts:
            part = _Part(folder)
            opened.callback(part.close)
            with progress_bar(part.pairs if earlier else 0, f"comparing {folder}", "pairs") as progress:
                for pairs in part.batches() if earlier else ():
                    for pair in pairs:
                        fingerprint = None if pair.duplicate_of else part.fingerprints.of(pair.position)
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
        # The mirror of a base in an object store has no fingerprints.
        is_local = self._base.built.store is None
        added = AddedFingerprints(folder / self._base.built.folder)
        try:
            added.read(self._base.appended.get(ADDED, 0) if is_local else 0)
            self.fingerprints = KeptFingerprints(added, built=bool(self._base.built.fingerprints) and is_local)
        except DamagedError as error:
            self._base.close()
            raise Damaged(f"{folder} is damaged, run `verify` for details: {error}") from error

    def batches(self) -> Iterator[list[StoredPair]]:
        """Yield all pairs in batches, in the order of their positions."""
        documents = self._base.index.in_order()
        for start in range(0, len(documents), _BATCH_PAIRS):
            yield self._base.index.read(documents[start : start + _BATCH_PAIRS])

    def originals(self, fingerprint: bytes, duplicates: dict[str, str]) -> Iterator[str]:
        """Yield the ids of the originals that an image is a near-duplicate of, in the order of their positions."""
        for near in self.fingerprints.near(fingerprint):
            pairs = self._base.index.pairs_of([identifier for _, identifier in near], NO_FILTER) if near else {}
            for position, identifier in near:
                pair = pairs.get(identifier)
                if pair and pair.position == position and not pair.duplicate_of and identifier not in duplicates:
                    yield identifier
