"""Images in an object store, with a disk cache of the most recently used ones.

fsspec's own disk caches (`blockcache`, `filecache`, `simplecache`) grow without bound. This cache stores whole images
by their checksums, not blocks of shards: an image is read whole or not at all, and images beside it in a shard are
unrelated.
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

# While a store does not answer, one request a second waits for its timeout; the others fail at once.
_RETRY_SECONDS = 1.0
_MEGABYTE = 1024 * 1024

Result = TypeVar("Result")


class RemoteImages:
    """Reader of images from the shards of a base in an object store, by byte range; thread-safe.

    Processes that serve the same base share the cache. Cached images can be read while the store is down.

    Args:
        store: The object store.
        shards: Folder of the shards in the store.
        cache: Folder of the local cache.
    """

    remote = True

    def __init__(self, store: ImageStore, shards: str, cache: Path) -> None:
        self._store = Store(store.address)
        self._seconds = store.seconds
        self._shards = shards
        self._cache = _open_cache(cache.resolve())
        self._cache.reset("size_limit", store.cache_megabytes * _MEGABYTE)
        self._flights = SingleFlight[bytes]()
        self._lock = threading.Lock()
        self._down: str | None = None
        self._retry_at = 0.0

    def read(self, pair: StoredPair) -> bytes:
        """Return the image file, see `Images`."""
        cached = self._get(pair.sha256)
        if cached is not None and _digest(cached) == pair.sha256:
            return cached
        return self._flights.do(pair.sha256, lambda: self._fetch(pair))

    def degraded_reason(self) -> str | None:
        """Return the reason, see `Images`; probes the store if it was down."""
        if self._down is None:
            return None
        try:
            self._call_store(lambda: self._store.size(MANIFEST, self._seconds))
        except Unavailable as error:
            return f"images that are not cached can't be read: {error.message}"
        return None

    def close(self) -> None:
        """Close the cache, see `Images`."""
        self._cache.close()

    def _fetch(self, pair: StoredPair) -> bytes:
        name = f"{self._shards}/{pair.shard}"
        start = pair.offset
        try:
            data = self._call_store(lambda: self._store.read(name, self._seconds, start, start + pair.length))
        except FileNotFoundError as error:
            raise DamagedError(f"{self._store.address} has no {name} with the image of {pair.id}") from error
        except Unavailable as error:
            raise Unavailable(f"the image of {pair.id!r} can't be read: {error.message}", retry_after=1.0) from error
        if _digest(data) != pair.sha256:
            raise DamagedError(
                f"{self._store.address}: the {len(data):,} bytes of {name} at {pair.offset} are not the image of "
                f"{pair.id} ({pair.length:,} bytes)"
            )
        self._put(pair.sha256, data)
        return data

    def _call_store(self, call: Callable[[], Result]) -> Result:
        """Return the store's answer; while the store is down, let one call a second through and refuse the others."""
        with self._lock:
            if self._down is not None and time.monotonic() < self._retry_at:
                raise Unavailable(self._down)
            self._retry_at = time.monotonic() + _RETRY_SECONDS
        try:
            answer = call()
        except Unavailable as error:
            with self._lock:
                self._down, self._retry_at = error.message, time.monotonic() + _RETRY_SECONDS
            raise
        self._down = None
        return answer

    def _get(self, digest: str) -> bytes | None:
        try:
            cached = self._cache.get(digest)
        except (diskcache.Timeout, sqlite3.Error, OSError):
            return None
        return cached if isinstance(cached, bytes) else None

    def _put(self, digest: str, data: bytes) -> None:
        try:
            self._cache.set(digest, data)
        except (diskcache.Timeout, sqlite3.Error, OSError):
            return  # For example, the disk is full; the image can still be read from the store.


@functools.cache
def _open_cache(folder: Path) -> diskcache.Cache:
    """Return one cache object for all parts of a union: it has an SQLite connection for each thread.

    A closed cache reopens itself when it is used.
    """
    return diskcache.Cache(folder, eviction_policy="least-recently-used")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
