"""Waiting for a service that a measurement has started."""

import re
import subprocess
import time
from pathlib import Path

READY_SECONDS = 120


def ready_address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until a retriever's log says that it is ready, and return the address that it listens on.

    Raises:
        RuntimeError: it has ended, or is not ready after two minutes.
    """
    deadline = time.monotonic() + READY_SECONDS
    while not (ready := re.search(r"service=retriever .*msg=ready .*?grpc=(\S+)", log.read_text())):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the service is not ready: {log.read_text()}")
        time.sleep(0.05)
    return ready[1]
