"""Queue of live writes from many threads; one thread applies them, and all waiting changes share one commit."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from reimagen_common.errors import ReimagenError, Unavailable
from reimagen_retriever.dedup.fingerprint_index import AddedFingerprints
from reimagen_retriever.knowledge_base.folder_lock import LOCK_WAIT_SECONDS, Holder
from reimagen_retriever.live.writer import Change, LiveWriter, Outcome, Outdated

_logger = logging.getLogger(__name__)

# Other processes wait longer than this for the lock. Opening a new writer takes a tenth of this.
_IDLE_SECONDS = 0.25
_BATCH_CHANGES = 1_000


@dataclass(frozen=True)
class _Request:
    changes: Sequence[Change]
    done: Future[list[Outcome]] = field(default_factory=Future)


class WriteQueue:
    """Queue of writes to a base; thread-safe. It holds the base's lock from the first change until it is idle.

    Args:
        folder: Folder of the knowledge base.
        address: host:port where the service accepts changes, for error messages of processes that find the base locked.
        committed: Callback after every commit, before `apply` returns.
    """

    def __init__(self, folder: Path, address: str, committed: Callable[[], None]) -> None:
        self._folder = folder
        self._address = address
        self._committed = committed
        self._requests = SimpleQueue[_Request | None]()
        self._writer: LiveWriter | None = None
        self._known: AddedFingerprints | None = None
        """Fingerprints that the last writer had read; None after a failure, when they may include uncommitted ones."""
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Apply all of the changes or none; when this returns they are durable and visible to searches.

        Raises:
            Unavailable: The changes cannot be written, or another process writes to the base.
            ReimagenError: The base is damaged.
        """
        request = _Request(changes)
        with self._lock:
            if self._closed:
                raise Unavailable("the service is stopping")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live writes")
                self._thread.start()
            self._requests.put(request)
        return request.done.result()

    def close(self) -> None:
        """Apply the waiting changes, and release the base."""
        with self._lock:
            self._closed = True
            if self._thread is None:
                return
            self._requests.put(None)
        self._thread.join()

    def _run(self) -> None:
        running = True
        while running:
            try:
                batch = [self._requests.get(timeout=_IDLE_SECONDS if self._writer else None)]
            except Empty:
                self._known = self._release()
                continue
            with suppress(Empty):
                while (
                    batch[-1] is not None and sum(len(request.changes) for request in batch if request) < _BATCH_CHANGES
                ):
                    batch.append(self._requests.get_nowait())
            running = batch[-1] is not None
            self._apply([request for request in batch if request])
        self._release()
        import jnius

        jnius.detach()

    def _apply(self, batch: Sequence[_Request]) -> None:
        if not batch:
            return
        try:
            if self._writer is None:
                holder = Holder(work="the service", address=self._address)
                self._writer = LiveWriter(self._folder, holder, LOCK_WAIT_SECONDS, self._known)
                self._known = None
            outcomes = self._writer.apply([change for request in batch for change in request.changes])
            self._committed()
        except Exception as error:
            if not isinstance(error, ReimagenError):
                _logger.error("unexpected failure of a live write", exc_info=error)
            self._release()
            if isinstance(error, Outdated) and len(batch) > 1:
                # Apply each request alone, so that only the outdated one fails.
                for request in batch:
                    self._apply([request])
                return
            for request in batch:
                request.done.set_exception(error)
            return
        for request in batch:
            request.done.set_result(outcomes[: len(request.changes)])
            outcomes = outcomes[len(request.changes) :]

    def _release(self) -> AddedFingerprints | None:
        """Close the writer; the next change opens another one, which continues from the last commit.

        Returns:
            The fingerprints that the writer had read.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return None
        try:
            writer.close()
        except ReimagenError as error:
            _logger.warning("the writer of live changes could not be closed", exc_info=error)
        return writer.known
