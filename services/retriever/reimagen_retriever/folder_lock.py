"""One process at a time that writes to a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reimagen_common.errors import ReimagenError

LOCK = ".lock"


@contextmanager
def locked(folder: Path, work: str) -> Iterator[None]:
    """Holds the folder's lock; the system lets go of the lock of a process that was killed.

    Args:
        folder: an existing folder; the lock is a file in it.
        work: what the holder does, such as `build`.

    Raises:
        ReimagenError: another process holds it.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ReimagenError(f"another {work} is writing to {folder}; wait for it to end") from error
        yield
    finally:
        os.close(descriptor)
