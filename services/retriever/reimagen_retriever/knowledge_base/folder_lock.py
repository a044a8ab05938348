"""A lock that lets one process at a time write to a folder.

The package filelock does not fit: it truncates the lock file, where this lock describes its holder to those that wait.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reimagen_common.errors import Unavailable

LOCK = ".lock"
LOCK_WAIT_SECONDS = 5.0
"""How long to wait for another writer, in seconds: a service releases the lock soon after its last change."""
_RETRY_SECONDS = 0.05


class Holder(BaseModel):
    """The process that holds a folder's lock, as recorded in the lock file."""

    model_config = ConfigDict(frozen=True)

    work: str = Field(description="The task of the holder, such as `build`.")
    address: str = Field(default="", description="host:port where the holder accepts changes, if it is a service.")
    pid: int = Field(default_factory=os.getpid, description="Process id of the holder.")
    host: str = Field(default_factory=socket.gethostname, description="Host name of the holder's machine.")
    since: datetime = Field(default_factory=lambda: datetime.now(UTC), description="Time when the lock was taken, UTC.")

    def __str__(self) -> str:
        location = f"pid {self.pid} on {self.host} since {self.since:%Y-%m-%d %H:%M:%S} UTC"
        hint = f"; send changes to it with --address {self.address}" if self.address else ""
        return f"{self.work} ({location}{hint})"


@contextmanager
def locked(folder: Path, holder: Holder, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the folder's lock; the system releases the lock of a killed process.

    Args:
        folder: An existing folder; the lock is a file in it.
        holder: The description of this process for others that wait.
        wait_seconds: How long to wait for the lock.

    Raises:
        Unavailable: Another process holds the lock, or the folder cannot be written to.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Unavailable(f"cannot write to {folder}: {error.strerror}") from error
    try:
        deadline = time.monotonic() + wait_seconds
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise Unavailable(f"{folder} is being written to by {_read_holder(descriptor)}", retry_after=1.0)
            time.sleep(_RETRY_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.model_dump_json().encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_holder(descriptor: int) -> str:
    try:
        return str(Holder.model_validate_json(os.pread(descriptor, 10_000, 0)))
    except ValidationError:  # It has taken the lock, but not yet written its description.
        return "another process"
