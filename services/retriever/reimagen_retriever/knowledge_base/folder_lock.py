"""One process at a time that writes to a folder."""

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
"""How long to wait for another writer: a service lets go of a base soon after the last change that it was sent."""
_TRY_AGAIN_SECONDS = 0.05


class Holder(BaseModel):
    """Who writes to a folder, as its lock tells others."""

    model_config = ConfigDict(frozen=True)

    work: str = Field(description="What it does, such as `build`.")
    address: str = Field(default="", description="host:port where it takes changes from others, if it is a service.")
    pid: int = Field(default_factory=os.getpid, description="Of its process.")
    host: str = Field(default_factory=socket.gethostname, description="The machine that it runs on.")
    since: datetime = Field(default_factory=lambda: datetime.now(UTC), description="When it began, UTC.")

    def __str__(self) -> str:
        location = f"pid {self.pid} on {self.host} since {self.since:%Y-%m-%d %H:%M:%S} UTC"
        hint = f"; it takes changes from others: --address {self.address}" if self.address else ""
        return f"{self.work} ({location}{hint})"


@contextmanager
def locked(folder: Path, holder: Holder, wait_seconds: float = 0.0) -> Iterator[None]:
    """Holds the folder's lock; the system lets go of the lock of a process that was killed.

    Args:
        folder: an existing folder; the lock is a file in it.
        holder: what others are told meanwhile.
        wait_seconds: how long to wait for another to end.

    Raises:
        Unavailable: another process holds it, or the folder cannot be written to.
    """
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Unavailable(f"cannot write to {folder}: {error.strerror}") from error
    try:
        deadline = time.monotonic() + wait_seconds
        while not _taken(descriptor):
            if time.monotonic() >= deadline:
                raise Unavailable(f"{folder} is being written to by {_holder(descriptor)}", retry_after=1.0)
            time.sleep(_TRY_AGAIN_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.model_dump_json().encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> str:
    try:
        return str(Holder.model_validate_json(os.pread(descriptor, 10_000, 0)))
    except ValidationError:  # It has just taken the lock.
        return "another process"
