"""Durable writes: files and folder entries that survive a crash."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reimagen_common.errors import Unavailable

_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it survive a crash."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Add the folder to errors of writing: the system's "disk full" error names no file.

    Raises:
        Unavailable: The disk is full or read-only, or a quota or the maximum file size is reached.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise Unavailable(f"cannot write to {folder}: {error.strerror}") from error


def allocated_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Create an array in a new memory-mapped file.

    Its blocks are allocated at once: writing to unallocated ones on a full disk would kill the process by SIGBUS.

    Raises:
        OSError: The disk is full.
    """
    array: NDArray[Any] = np.lib.format.open_memmap(path, "w+", dtype, shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically and durably: after a crash it is complete or missing."""
    unfinished = path.with_suffix(f".{secrets.token_hex(4)}.part")
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)
