"""The served knowledge base, which builds and live writes replace while searches run."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reimagen_common.errors import Damaged, InvalidArgument, ReimagenError, Unavailable
from reimagen_retriever import metrics
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.bm25 import DEFAULT_RELEVANCE
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.integrity import Damage, IntegrityWatch
from reimagen_retriever.knowledge_base.manifest import manifest_stamp
from reimagen_retriever.search import DEFAULT_K

# Interval at which writes of other processes are checked for, even if the commit mark has not changed because the
# writer was killed.
_REFRESH_SECONDS = 0.25
_DAMAGED_SECONDS = 10.0
# Time limit for checking files, at the start and in health requests. The check of a large base continues afterwards.
_CHECK_SECONDS = 2.0
_HEALTH_SECONDS = 0.5

_WARM_UP_QUERY = "an image of a red panda in the snow"
_logger = logging.getLogger(__name__)


class ServedBase:
    """The current state of a knowledge base. Safe to use from many threads.

    After a build replaces the base, the next search uses the new one. Changes of other processes become visible within
    a second, changes of this process after `refresh`. Searches in progress finish on the old state.

    Args:
        folder: The folder of the knowledge base.
        encoder: See `KnowledgeBase.open`.
    """

    def __init__(self, folder: Path, encoder: Path | None) -> None:
        self._folder = folder
        self._encoder = encoder
        self._lock = threading.Lock()
        self._shared: _Shared | None = None
        self._stamp: tuple[int, int] | None = None
        self._refreshing = threading.Lock()
        self._refresh_at = 0.0
        self._commit_mark = -1
        self._unreadable_build: str | None = None
        self._unreadable_writes: str | None = None
        self._watch = IntegrityWatch()

    @property
    def unreadable(self) -> str | None:
        """The reason why the folder's current content is not served. None if it is served."""
        return self._unreadable_build or self._unreadable_writes

    def open(self) -> None:
        """Open the base and warm it up. Until then it is `Unavailable`.

        Raises:
            NotFound: The folder holds no complete knowledge base.
            ReimagenError: The base is broken or damaged.
        """
        stamp = manifest_stamp(self._folder)
        base = self._opened_warm()
        with self._lock:
            self._shared, self._stamp = _Shared(base), stamp

    @contextmanager
    def current(self) -> Iterator[KnowledgeBase]:
        """Yield the current base, which stays open for the duration of the context.

        Raises:
            Unavailable: The base is not open.
            Damaged: The body raised an error and a file of the base is damaged.
        """
        serving = self._shared
        if serving is not None:
            mark = serving.base.commit_mark()
            if mark != self._commit_mark or time.monotonic() >= self._refresh_at:
                self.refresh(mark)
        with self._lock:
            if self._shared is None:
                raise not_open()
            self._switch_to_new_build()
            shared = self._shared
            shared.acquire()
        try:
            yield shared.base
        except ReimagenError:
            raise
        except DamagedError as error:
            raise Damaged(f"the knowledge base is damaged, run `verify` for details: {error}") from error
        except Exception as error:
            files = [*shared.base.index_files, *shared.base.vector_files]
            for damage in self._watch.look_again(files, _CHECK_SECONDS):
                raise Damaged(f"the knowledge base is damaged: {damage}") from error
            raise
        finally:
            shared.release()

    def damage(self, base: KnowledgeBase) -> str | None:
        """Return the known damage of the files that never change, or None."""
        files = [*base.index_files, *base.vector_files, *base.fingerprint_files]
        found = self._watch.look(files, _HEALTH_SECONDS)
        return f"the knowledge base is damaged: {'; '.join(map(str, found))}" if found else None

    def refuse_damaged_vectors(self, base: KnowledgeBase) -> None:
        """Raise if the vectors are known to be damaged, because FAISS may crash on a damaged index.

        Raises:
            Damaged: The vectors are damaged.
        """
        for damage in self._damaged_vectors(base, 0.0):
            raise Damaged(f"the vectors of the knowledge base are damaged: {damage}")

    def refresh(self, mark: int | None = None) -> None:
        """Switch to the last live write of this or another process.

        Args:
            mark: The commit mark that the caller saw. Another thread may have refreshed since.
        """
        with self._refreshing:
            if mark is not None and mark == self._commit_mark and time.monotonic() < self._refresh_at:
                return
            self._refresh_at = time.monotonic() + _REFRESH_SECONDS
            with self._lock:
                self._switch_to_new_build()
                shared = self._shared
                if shared is None:
                    return
                shared.acquire()
            try:
                self._commit_mark = shared.base.commit_mark()
                base = shared.base.refreshed()
            except DamagedError as error:
                if manifest_stamp(self._folder) != self._stamp:
                    return  # A new build has replaced the base and removed the old files.
                self._refresh_at += _DAMAGED_SECONDS
                _logger.error("cannot read live writes: serving the state before them", exc_info=error)
                self._unreadable_writes = f"the knowledge base has changed and cannot be read: {error}"
                return
            finally:
                shared.release()
            self._unreadable_writes = None
            if base is None:
                return
            with self._lock:
                if self._shared is not shared:  # A new build has replaced the base.
                    base.close()
                    return
                self._shared = _Shared(base)
            shared.retire()
            _measure(base)

    def close(self) -> None:
        """Close the base after the searches in progress have finished."""
        with self._lock:
            if self._shared:
                self._shared.retire()
            self._shared = None

    def _switch_to_new_build(self) -> None:
        stamp = manifest_stamp(self._folder)
        if stamp == self._stamp or self._shared is None:
            return
        self._stamp = stamp
        try:
            base = self._opened_warm()
        except ReimagenError as error:
            _logger.error("the knowledge base has changed and cannot be opened: serving the old one", exc_info=error)
            self._unreadable_build = f"the knowledge base has changed and cannot be opened: {error.message}"
            return
        self._unreadable_build = self._unreadable_writes = None
        self._shared.retire()
        self._shared = _Shared(base)

    def _damaged_vectors(self, base: KnowledgeBase, seconds: float) -> list[Damage]:
        vectors = {file.location for file in base.vector_files}
        files = [*base.index_files, *base.vector_files, *base.fingerprint_files]
        return [damage for damage in self._watch.look(files, seconds) if damage.location in vectors]

    def _opened_warm(self) -> KnowledgeBase:
        base = KnowledgeBase.open(self._folder, self._encoder)
        damaged_vectors = self._damaged_vectors(base, _CHECK_SECONDS)
        try:
            # Java compiles hot code at run time. Without the warm-up, the first requests would be slow.
            for _ in range(20):
                base.index.search(_WARM_UP_QUERY, DEFAULT_K, 0.0, DEFAULT_RELEVANCE)
            if base.dense and not damaged_vectors:
                base.dense.search(_WARM_UP_QUERY, DEFAULT_K, -1.0)
        except InvalidArgument as error:
            _logger.warning("dense search is unavailable: searching by BM25 only", extra={"error": error.message})
        except Exception as error:
            if not self.damage(base):
                base.close()
                raise
            _logger.error("the knowledge base is damaged: serving its readable part", exc_info=error)
        _measure(base)
        _logger.info("serving", extra={"revision": base.manifest.revision, "pairs": base.manifest.pairs})
        return base


class _Shared:
    """A reference-counted base. It closes after `retire` and the last `release`."""

    def __init__(self, base: KnowledgeBase) -> None:
        self.base = base
        self._holders = 1
        self._lock = threading.Lock()

    def acquire(self) -> None:
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            self.base.close()

    retire = release


def _measure(base: KnowledgeBase) -> None:
    metrics.PAIRS.set(base.manifest.pairs)
    metrics.REVISIONS.inc()
    metrics.REVISION_SINCE.set_to_current_time()


def not_open() -> Unavailable:
    """Return the error for a base that is not open yet or already closed."""
    return Unavailable("the knowledge base is not open; try again in a moment", retry_after=1.0)
