"""The supervisor of a process group: several processes on the same ports, each with its own Java virtual machine.

The kernel assigns each new connection to one of the processes. The supervisor serves no requests itself: it reserves
the ports, restarts processes that die, and forwards the stop signal.
"""

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Final

from reimagen_common.errors import ReimagenError
from reimagen_common.http_server import listen
from reimagen_common.logs import configure_logging
from reimagen_common.processes import run_until_signal
from reimagen_common.tracing import start_tracing, stop_tracing
from reimagen_retriever.process_group import ProcessGroup
from reimagen_retriever.server import RetrieverServer, listening, serve, with_port
from reimagen_retriever.settings import Settings

# Pause before a restart, so that a process that dies repeatedly does not load the machine.
_RESTART_SECONDS: Final = 1.0
# Time for the Java virtual machine to exit, on top of `stop_seconds`.
_MARGIN_SECONDS: Final = 10.0

_logger = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, in `settings.processes` processes.

    Raises:
        InvalidArgument: An address or the Redis URL is invalid.
        NotFound: The folder holds no complete knowledge base.
    """
    if settings.processes == 1:
        serve(settings)
        return
    configure_logging("retriever", settings.log_level)
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="reimagen-retriever-")))
        addresses = {"grpc": held.enter_context(_reserved_port("grpc", settings.grpc))}
        if settings.http:
            addresses["http"] = held.enter_context(_reserved_port("http", settings.http))
        workers = _Workers(settings.model_copy(update=addresses), folder)
        try:
            workers.watch()
        finally:
            workers.stop()


class _Worker:
    """A process of the group, as the supervisor sees it."""

    def __init__(self, settings: Settings, folder: Path, number: int) -> None:
        # A forked process would inherit locks that threads of its parent hold.
        spawn = multiprocessing.get_context("spawn")
        self.news, theirs = spawn.Pipe(duplex=False)
        self.process: BaseProcess = spawn.Process(
            target=_serve, args=(settings, folder, number, theirs), name=f"worker-{number}"
        )
        self.process.start()
        theirs.close()
        self.ready = False


class _Workers:
    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._asked_to_stop, self._ask_to_stop = multiprocessing.Pipe(duplex=False)
        self._workers: dict[int, _Worker] = {}
        self._start_at = dict.fromkeys(range(settings.processes), 0.0)
        self._all_were_ready = False

    def watch(self) -> None:
        """Start the processes and keep them running until a stop signal arrives.

        Raises:
            ReimagenError: A process could not start, and not all processes have been ready yet.
        """

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            self._ask_to_stop.send_bytes(b"")

        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
        while not self._asked_to_stop.poll():
            self._start_due()
            news = [worker.news for worker in self._workers.values() if not worker.ready]
            ends = [worker.process.sentinel for worker in self._workers.values()]
            pause = min(self._start_at.values(), default=None)
            wait([self._asked_to_stop, *news, *ends], None if pause is None else max(0.0, pause - time.monotonic()))
            for number, worker in list(self._workers.items()):
                self._check(number, worker)
        _logger.info("stopping")

    def stop(self) -> None:
        """Signal all processes to stop, and kill those that take too long."""
        for worker in self._workers.values():
            worker.process.terminate()
        deadline = time.monotonic() + self._settings.stop_seconds + _MARGIN_SECONDS
        for worker in self._workers.values():
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.process.kill()
            worker.process.join()

    def _start_due(self) -> None:
        for number, due in list(self._start_at.items()):
            if due <= time.monotonic():
                del self._start_at[number]
                self._workers[number] = _Worker(self._settings, self._folder, number)

    def _check(self, number: int, worker: _Worker) -> None:
        if not worker.ready and worker.news.poll():
            try:
                error: ReimagenError | None = worker.news.recv()
            except EOFError:
                worker.process.join(_MARGIN_SECONDS)
                error = ReimagenError(f"process {number} died during startup")
            if error and not self._all_were_ready:
                raise error
            if error is None:
                worker.ready = True
        if not self._all_were_ready and all(each.ready for each in self._workers.values()):
            self._all_were_ready = True
            fields = {"grpc": self._settings.grpc, "http": self._settings.http or "none"}
            _logger.info("ready", extra={**fields, "processes": self._settings.processes})
        if worker.process.exitcode is not None:
            _logger.error(
                "a process died and is being restarted", extra={"number": number, "status": worker.process.exitcode}
            )
            del self._workers[number]
            self._start_at[number] = time.monotonic() + _RESTART_SECONDS


def _serve(settings: Settings, folder: Path, number: int, news: Connection) -> None:
    """Serve in a process of the group. Send the supervisor None when ready, or the error that prevented it."""
    # Ctrl-C in a terminal signals the whole process group, but only the supervisor decides when to stop.
    os.setsid()
    configure_logging(f"retriever-{number}", settings.log_level)
    start_tracing("reimagen-retriever")
    threading.Thread(target=_stop_with_the_parent, name="parent", daemon=True).start()
    try:
        service = RetrieverServer(settings, ProcessGroup(folder, number, settings.processes))
        try:
            service.start()
            news.send(None)
            news.close()
            run_until_signal(lambda: service.stop(settings.stop_seconds))
        finally:
            service.stop(0)
    except ReimagenError as error:
        news.send(error)
        _logger.error("cannot serve", extra={"reason": error.message})
        raise SystemExit(1) from error
    finally:
        stop_tracing()


def _stop_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _reserved_port(setting: str, address: str) -> Iterator[str]:
    """Reserve a free port for the processes that will share it. Yield the address with that port.

    Raises:
        InvalidArgument: The server cannot listen on the address.
    """
    with ExitStack() as held:
        with listening(setting, address):
            # A socket that does not share its port detects whether the port is free.
            with listen(address) as probe:
                family, (host, port, *_) = probe.family, probe.getsockname()
            # This name detects another supervisor whose processes do not listen yet. It is released with the port and
            # belongs to the same network namespace.
            name = held.enter_context(socket.socket(socket.AF_UNIX))
            name.bind(f"\0reimagen-retriever:{port}")
            holder = held.enter_context(socket.socket(family))
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                holder.setsockopt(socket.SOL_SOCKET, option, 1)
            holder.bind((host, port))
        yield with_port(address, port)
