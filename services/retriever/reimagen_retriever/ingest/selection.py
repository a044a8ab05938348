"""Which pairs of a source are taken: one of each id, and of near-duplicates all or the first."""

import hashlib

from reimagen_retriever.dedup.duplicates import DuplicateFinder
from reimagen_retriever.ingest.journal import Record
from reimagen_retriever.knowledge_base.pair import Rejected


class Selection:
    """Looks at pairs in the order of the source.

    Args:
        drop_duplicates: whether near-duplicates are left out, not marked.
    """

    def __init__(self, *, drop_duplicates: bool) -> None:
        self._drop_duplicates = drop_duplicates
        self._seen: set[bytes] = set()
        """Digests, because a large base has more ids than memory."""
        self._duplicates = DuplicateFinder()

    def remember(self, record: Record) -> None:
        """Takes up what an earlier run of this build has chosen."""
        for pair, fingerprint in record.pairs_and_fingerprints():
            self._seen.add(_digest(pair.id))
            if not pair.duplicate_of:
                self._duplicates.remember(pair.id, fingerprint)

    def choose(self, location: str, identifier: str, fingerprint: bytes) -> str | Rejected:
        """Takes the pair, telling which one its image nearly shows again ('': none); or why it is left out."""
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
