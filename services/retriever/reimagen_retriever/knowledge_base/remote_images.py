"""Images in an object store, of which the last used are kept on disk.

fsspec's own caches on disk (`blockcache`, `filecache`, `simplecache`) grow without a bound. What is kept here are whole
images rather than blocks of shards, by their checksums: an image is read whole or not at all, and its neighbors in a
shard have nothing to do with it.
"""

import functools
import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import diskcache

from reimagen_common.errors import Unavailable
from reimagen_common.single_flight import SingleFlight
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.manifest import MANIFEST, ImageStore
from reimagen_retriever.knowledge_base.pair import StoredPair
from reimagen_retriever.knowledge_base.store import Store

# A store that does not answer costs one caller a second its time-out, not all of them.
_TRY_AGAIN_SECONDS = 1.0
_MEGABYTE = 1024 * 1024

Answer = TypeVar("Answer")


class RemoteImages:
    """Reads images by byte range out of the shards of a base in an object store; safe to use from many threads.

    Processes that serve the same base share what is kept. An image that is kept is found while the store is down.

    Args:
        store: What has them.
        shards: The folder of the shards there.
        kept: The folder here where the last used are kept.
    """

    remote = True

    def __init__(self, store: ImageStore, shards: str, kept: Path) -> None:
        self._store = Store(store.address)
        self._seconds = store.seconds
        self._shards = shards
        self._kept = _opened(kept.resolve())
        self._kept.reset("size_limit", store.cache_megabytes * _MEGABYTE)
        self._flights = SingleFlight[bytes]()
        self._lock = threading.Lock()
        self._down: str | None = None
        self._try_again_at = 0.0

    def read(self, pair: StoredPair) -> bytes:
        """See `Images`."""
        kept = self._get(pair.sha256)
        if kept is not None and _digest(kept) == pair.sha256:
            return kept
        return self._flights.do(pair.sha256, lambda: self._fetch(pair))

    def degraded_reason(self) -> str | None:
        """See `Images`; asks the store if it was down."""
        if self._down is None:
            return None
        try:
            self._asked(lambda: self._store.size(MANIFEST, self._seconds))
        except Unavailable as error:
            return f"images that are not kept here can't be had: {error.message}"
        return None

    def close(self) -> None:
        """See `Images`."""
        self._kept.close()

    def _fetch(self, pair: StoredPair) -> bytes:
        name = f"{self._shards}/{pair.shard}"
        start = pair.offset
        try:
            data = self._asked(lambda: self._store.read(name, self._seconds, start, start + pair.length))
        except FileNotFoundError as error:
            raise DamagedError(f"{self._store.address} has no {name}, where the image of {pair.id} is") from error
        except Unavailable as error:
            raise Unavailable(f"the image of {pair.id!r} can't be had: {error.message}", retry_after=1.0) from error
        if _digest(data) != pair.sha256:
            raise DamagedError(
                f"{self._store.address}: what {name} has at {pair.offset} ({len(data):,} bytes) is not the image of "
                f"{pair.id} ({pair.length:,} bytes)"
            )
        self._put(pair.sha256, data)
        return data

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        """What the store answers; while it is known to be down, one caller a second finds out, others are refused."""
        with self._lock:
            if self._down is not None and time.monotonic() < self._try_again_at:
                raise Unavailable(self._down)
            self._try_again_at = time.monotonic() + _TRY_AGAIN_SECONDS
        try:
            answer = ask()
        except Unavailable as error:
            with self._lock:
                self._down, self._try_again_at = error.message, time.monotonic() + _TRY_AGAIN_SECONDS
            raise
        self._down = None
        return answer

    def _get(self, digest: str) -> bytes | None:
        try:
            kept = self._kept.get(digest)
        except (diskcache.Timeout, sqlite3.Error, OSError):
            return None
        return kept if isinstance(kept, bytes) else None

    def _put(self, digest: str, data: bytes) -> None:
        try:
            self._kept.set(digest, data)
        except (diskcache.Timeout, sqlite3.Error, OSError):
            return  # The disk is full, say; the store has the image still.


@functools.cache
def _opened(kept: Path) -> diskcache.Cache:
    """One for all parts of a union, as it has a connection to SQLite for each thread; those that are closed reopen."""
    return diskcache.Cache(kept, eviction_policy="least-recently-used")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
