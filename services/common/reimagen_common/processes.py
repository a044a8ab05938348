"""The end of a process: the service's own, and that of a child."""

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
    """Blocks until SIGTERM or SIGINT (Ctrl-C) arrives, then stops in an orderly way.

    Call it in the main thread, last of all: a Java virtual machine takes both signals when it starts. A second signal
    ends the process at once.

    Args:
        stop: Drains the service; called once, in the main thread.
    """
    asked = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            os._exit(128 + number)
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    asked.wait()
    _logger.info("stopping")
    stop()
    _logger.info("stopped")


def stop_child(process: "subprocess.Popen[Any]", seconds: float) -> None:
    """Asks a child process to end and waits; kills it if that takes too long. Harmless when it has ended already.

    Args:
        seconds: What it is given to end by itself.
    """
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
