"""Stop processes: the service's own process, and a child process."""

import logging
import os
import signal
import subprocess
import threading
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
    stopping = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    stopping.wait()
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
