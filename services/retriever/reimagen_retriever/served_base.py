"""The base that is served: replaced by builds and live writes while searches go on."""

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

# What another process has added or removed is looked for so often, even if it was killed before it could tell.
_REFRESH_SECONDS = 0.25
_DAMAGED_SECONDS = 10.0
# So long is waited for files to be checked, at the start and when health is asked for; of large bases it goes on after.
_CHECK_SECONDS = 2.0
_HEALTH_SECONDS = 0.5

_WARMING = "an image of a red panda in the snow"
_logger = logging.getLogger(__name__)


class ServedBase:
    """A knowledge base as it is now; safe to use from many threads.

    When a build replaces the base, the next search is answered from the new one; what another process adds or removes
    is seen within a second, and what this one does after `refresh`. Searches under way end on the old.

    Args:
        folder: The knowledge base.
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
        """Why what the folder holds now is not served; None if it is."""
        return self._unreadable_build or self._unreadable_writes

    def open(self) -> None:
        """Opens the base and warms it up; until then it is `Unavailable`.

        Raises:
            NotFound: there is no complete knowledge base in the folder.
            ReimagenError: it is broken or damaged.
        """
        stamp = manifest_stamp(self._folder)
        base = self._opened_warm()
        with self._lock:
            self._shared, self._stamp = _Shared(base), stamp

    @contextmanager
    def current(self) -> Iterator[KnowledgeBase]:
        """The base, which stays open while it is in use.

        Raises:
            Unavailable: it is not open.
            Damaged: in place of whatever is raised while it is in use, if a file of the base is damaged.
        """
        serving = self._shared
        if serving is not None:
            mark = serving.base.commit_mark()
            if mark != self._commit_mark or time.monotonic() >= self._refresh_at:
                self.refresh(mark)
        with self._lock:
            if self._shared is None:
                raise not_open()
            self._follow_a_new_build()
            shared = self._shared
            shared.take()
        try:
            yield shared.base
        except ReimagenError:
            raise
        except DamagedError as error:
            raise Damaged(f"the knowledge base is damaged, `verify` tells more: {error}") from error
        except Exception as error:
            files = [*shared.base.index_files, *shared.base.vector_files]
            for damage in self._watch.look_again(files, _CHECK_SECONDS):
                raise Damaged(f"the knowledge base is damaged: {damage}") from error
            raise
        finally:
            shared.give_back()

    def damage(self, base: KnowledgeBase) -> str | None:
        """What is damaged of the files that never change; None where nothing is known to be."""
        files = [*base.index_files, *base.vector_files, *base.fingerprint_files]
        found = self._watch.look(files, _HEALTH_SECONDS)
        return f"the knowledge base is damaged: {'; '.join(map(str, found))}" if found else None

    def refuse_damaged_vectors(self, base: KnowledgeBase) -> None:
        """FAISS may crash on a damaged index.

        Raises:
            Damaged: the vectors are known to be.
        """
        for damage in self._damaged_vectors(base, 0.0):
            raise Damaged(f"the vectors of the knowledge base are damaged: {damage}")

    def refresh(self, mark: int | None = None) -> None:
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
                shared = self._shared
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
                self._unreadable_writes = f"the knowledge base has changed and can't be read: {error}"
                return
            finally:
                shared.give_back()
            self._unreadable_writes = None
            if base is None:
                return
            with self._lock:
                if self._shared is not shared:  # A new build has come meanwhile.
                    base.close()
                    return
                self._shared = _Shared(base)
            shared.retire()
            _measure(base)

    def close(self) -> None:
        """Closes the base; searches under way end first."""
        with self._lock:
            if self._shared:
                self._shared.retire()
            self._shared = None

    def _follow_a_new_build(self) -> None:
        stamp = manifest_stamp(self._folder)
        if stamp == self._stamp or self._shared is None:
            return
        self._stamp = stamp
        try:
            base = self._opened_warm()
        except ReimagenError as error:
            _logger.error("the knowledge base has changed and can't be opened: serving the old one", exc_info=error)
            self._unreadable_build = f"the knowledge base has changed and can't be opened: {error.message}"
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
            # Java compiles as it runs: without this the first callers would wait for it.
            for _ in range(20):
                base.index.search(_WARMING, DEFAULT_K, 0.0, DEFAULT_RELEVANCE)
            if base.dense and not damaged_vectors:
                base.dense.search(_WARMING, DEFAULT_K, -1.0)
        except InvalidArgument as error:
            _logger.warning("searches by BM25 alone", extra={"error": error.message})
        except Exception as error:
            if not self.damage(base):
                base.close()
                raise
            _logger.error("serving what can be read of a damaged base", exc_info=error)
        _measure(base)
        _logger.info("serving", extra={"revision": base.manifest.revision, "pairs": base.manifest.pairs})
        return base


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


def _measure(base: KnowledgeBase) -> None:
    metrics.PAIRS.set(base.manifest.pairs)
    metrics.GENERATIONS.inc()
    metrics.GENERATION_SINCE.set_to_current_time()


def not_open() -> Unavailable:
    """The error of a base that is not open yet, or no longer."""
    return Unavailable("the knowledge base is not open; try again in a moment", retry_after=1.0)
