"""Stop processes: the service's own process, and a child process."""

import logging
import os
import queue
import signal
import subprocess
from collections.abc import Callable
from types import FrameType
from typing import Any

_logger = logging.getLogger(__name__)


def run_until_signal(stop: Callable[[], None]) -> None:
    """Wait for SIGTERM or SIGINT (Ctrl-C), then stop the service gracefully.

    Call it in the main thread after everything has started, because a Java virtual machine takes over both signals when
    it starts. A second signal ends the process immediately.

    Args:
        stop: A function that drains the service. It is called once, in the main thread.
    """
    # A handler may run while the main thread holds an event's lock, and `Event.set` would then wait for it forever. The
    # put of a SimpleQueue is reentrant.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    stopping = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            os._exit(128 + number)
        stopping = True
        signals.put(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    signals.get()
    _logger.info("stopping")
    stop()
    _logger.info("stopped")


def stop_child(process: "subprocess.Popen[Any]", seconds: float) -> None:
    """Terminate a child process, and kill it after a time limit. Has no effect if it has already ended.

    Args:
        process: The child process.
        seconds: Time limit in seconds.
    """
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
