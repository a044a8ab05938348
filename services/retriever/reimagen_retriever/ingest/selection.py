"""Selection of a source's pairs: the first of each id, and all or the first of near-duplicates."""

import hashlib

from reimagen_retriever.dedup.duplicates import DuplicateFinder
from reimagen_retriever.ingest.journal import Record
from reimagen_retriever.knowledge_base.pair import Rejected


class Selection:
    """The selection of pairs, which must come in the order of the source.

    Args:
        drop_duplicates: Whether near-duplicates are left out; otherwise they are marked.
    """

    def __init__(self, *, drop_duplicates: bool) -> None:
        self._drop_duplicates = drop_duplicates
        self._seen: set[bytes] = set()
        """Digests of ids, because the ids of a large base may not fit into memory."""
        self._duplicates = DuplicateFinder()

    def replay(self, record: Record) -> None:
        """Add the pairs that an earlier run of this build selected."""
        for pair, fingerprint in record.pairs_and_fingerprints():
            self._seen.add(_digest(pair.id))
            if not pair.duplicate_of:
                self._duplicates.remember(pair.id, fingerprint)

    def choose(self, location: str, identifier: str, fingerprint: bytes) -> str | Rejected:
        """Select a pair and return the id of the pair that it is a near-duplicate of, or ''; or return a rejection."""
        digest = _digest(identifier)
        if digest in self._seen:
            return Rejected(location, "duplicate id", identifier)
        original = self._duplicates.find(identifier, fingerprint)
        if original and self._drop_duplicates:
            return Rejected(location, "near-duplicate", f"of {original}")
        self._seen.add(digest)
        return original


def _digest(identifier: str) -> bytes:
    return hashlib.blake2b(identifier.encode(), digest_size=12).digest()
