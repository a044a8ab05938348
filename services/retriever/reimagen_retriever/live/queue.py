"""Many callers' changes, made by one thread: those that wait together share one commit."""

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

# Builds, compactions and writes of other processes wait longer than this for their turn; to begin anew takes a tenth.
_IDLE_SECONDS = 0.25
_MOST_AT_ONCE = 1_000


@dataclass(frozen=True)
class _Asked:
    changes: Sequence[Change]
    done: Future[list[Outcome]] = field(default_factory=Future)


class WriteQueue:
    """Writes to a base for many threads; takes its lock with the first change and lets go of it after the last.

    Args:
        folder: The knowledge base.
        address: host:port where the service takes changes, for those who find the base locked.
        committed: Called after every commit, before the callers are told.
    """

    def __init__(self, folder: Path, address: str, committed: Callable[[], None]) -> None:
        self._folder = folder
        self._address = address
        self._committed = committed
        self._asked = SimpleQueue[_Asked | None]()
        self._writer: LiveWriter | None = None
        self._known: AddedFingerprints | None = None
        """What the last writer had read of the base; None after a failure, when it may know more than was written."""
        self._lock = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Makes the changes, all or none of them; when it returns they are safe on disk, and searches see them.

        Raises:
            Unavailable: they cannot be written, or another process writes to the base.
            ReimagenError: the base is damaged.
        """
        asked = _Asked(changes)
        with self._lock:
            if self._closed:
                raise Unavailable("the service is stopping")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live writes")
                self._thread.start()
            self._asked.put(asked)
        return asked.done.result()

    def close(self) -> None:
        """Makes the changes that wait, and lets go of the base."""
        with self._lock:
            self._closed = True
            if self._thread is None:
                return
            self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        going_on = True
        while going_on:
            try:
                together = [self._asked.get(timeout=_IDLE_SECONDS if self._writer else None)]
            except Empty:
                self._known = self._let_go()
                continue
            with suppress(Empty):
                while (
                    together[-1] is not None and sum(len(asked.changes) for asked in together if asked) < _MOST_AT_ONCE
                ):
                    together.append(self._asked.get_nowait())
            going_on = together[-1] is not None
            self._make([asked for asked in together if asked])
        self._let_go()
        import jnius

        jnius.detach()

    def _make(self, together: Sequence[_Asked]) -> None:
        if not together:
            return
        try:
            if self._writer is None:
                holder = Holder(work="the service", address=self._address)
                self._writer = LiveWriter(self._folder, holder, LOCK_WAIT_SECONDS, self._known)
                self._known = None
            outcomes = self._writer.apply([change for asked in together for change in asked.changes])
            self._committed()
        except Exception as error:
            if not isinstance(error, ReimagenError):
                _logger.error("unexpected failure of a live write", exc_info=error)
            self._let_go()
            if isinstance(error, Outdated) and len(together) > 1:
                # What one caller has to make again is not the others'.
                for asked in together:
                    self._make([asked])
                return
            for asked in together:
                asked.done.set_exception(error)
            return
        for asked in together:
            asked.done.set_result(outcomes[: len(asked.changes)])
            outcomes = outcomes[len(asked.changes) :]

    def _let_go(self) -> AddedFingerprints | None:
        """Closes the writer; the next change opens another, which goes on from the last commit.

        Returns:
            What it knew.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return None
        try:
            writer.close()
        except ReimagenError as error:
            _logger.warning("the writer of live changes could not be closed", exc_info=error)
        return writer.known
