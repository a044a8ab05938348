"""Weights from an object store: fetched once into a local cache, resumed after an interruption, and checked.

The folder in the store has a file `SHA256SUMS`, as the program sha256sum writes it, which names its files. Its own
digest names the folder in the cache, so changed weights get another one, and equal weights are fetched once.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import fsspec

SUMS_FILE: Final = "SHA256SUMS"
_CONFIG_FILE: Final = "cascade.json"
_CHUNK_BYTES: Final = 16 * 1024**2
# Failures in a row, between which the pauses double.
_ATTEMPTS: Final = 5
_PAUSE_SECONDS: Final = 1.0

_logger = logging.getLogger(__name__)


def write_sums(folder: Path) -> Path:
    """Write the SHA-256 of each file in a folder of weights, and return the path of that file.

    Raises:
        ValueError: The folder has no cascade.json.
    """
    if not (folder / _CONFIG_FILE).is_file():
        raise ValueError(f"folder: there is no {_CONFIG_FILE} in {folder}")
    sums = folder / SUMS_FILE
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != sums)
    lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    partial = sums.with_suffix(".partial")
    partial.write_text("".join(lines), encoding="utf-8")
    partial.rename(sums)
    return sums


def fetch(address: str, cache: Path) -> Path:
    """Return the folder in the cache with the weights of an address, which are fetched if they are not there.

    Several processes may fetch into one cache: one does, and the others wait.

    Args:
        address: Address of a folder that fsspec can read, such as gs://bucket/folder.
        cache: Folder of the cache.

    Raises:
        ValueError: The address cannot be read, a file is missing, or a file has another content than SHA256SUMS says.
    """
    try:
        store, root = fsspec.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ValueError(f"weights: cannot read {address}: {error}") from error
    listed = _read_sums(store, root, address)
    sums = _parse_sums(listed, address)
    folder = cache / hashlib.sha256(listed).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if folder.is_dir():
            _logger.info("the weights are in the cache", extra={"folder": str(folder)})
            return folder
        partial = folder.with_suffix(".partial")
        for name, digest in sums.items():
            _fetch_file(store, f"{root}/{name}", partial / name, digest)
        partial.rename(folder)
    return folder


def _read_sums(store: Any, root: str, address: str) -> bytes:
    try:
        listed: bytes = store.cat_file(f"{root}/{SUMS_FILE}")
    except FileNotFoundError as error:
        raise ValueError(
            f"weights: there is no {SUMS_FILE} in {address}; write it with reimagen-generator checksums FOLDER, and "
            "copy it too"
        ) from error
    except Exception as error:
        # Each store has errors of its own.
        raise ValueError(f"weights: cannot read {address}: {error}") from error
    return listed


def _parse_sums(listed: bytes, address: str) -> dict[str, str]:
    sums = {}
    for number, line in enumerate(listed.decode("utf-8", "replace").splitlines(), start=1):
        digest, _, name = line.partition("  ")
        path = PurePosixPath(name)
        if len(digest) != hashlib.sha256().digest_size * 2 or not name or path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"weights: line {number} of {address}/{SUMS_FILE} must be a SHA-256, two spaces and a file name"
            )
        sums[name] = digest.lower()
    if _CONFIG_FILE not in sums:
        raise ValueError(f"weights: {address}/{SUMS_FILE} does not name {_CONFIG_FILE}")
    return sums


def _fetch_file(store: Any, source: str, target: Path, digest: str) -> None:
    """Fetch what a file lacks, and check the whole file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    with target.open("ab") as file:
        while True:
            try:
                missing = store.info(source)["size"] - file.tell()
                if missing <= 0:
                    break
                data = store.cat_file(source, start=file.tell(), end=file.tell() + min(missing, _CHUNK_BYTES))
                if not 0 < len(data) <= missing:
                    raise OSError(f"{len(data)} bytes came, of {missing} that were missing")
            except FileNotFoundError as error:
                raise ValueError(f"weights: {source} is missing, although {SUMS_FILE} names it") from error
            except Exception as error:
                # Each store has errors of its own.
                failures += 1
                if failures == _ATTEMPTS:
                    raise ValueError(f"weights: cannot read {source}, tried {_ATTEMPTS} times: {error}") from error
                _logger.warning("fetching is tried again", extra={"file": source, "bytes": file.tell()}, exc_info=error)
                time.sleep(_PAUSE_SECONDS * 2 ** (failures - 1))
            else:
                file.write(data)
                failures = 0
        file.flush()
        os.fsync(file.fileno())
    found = _digest(target)
    if found != digest:
        target.unlink()
        raise ValueError(f"weights: {source} has the SHA-256 {found}, but {SUMS_FILE} says {digest}; copy it again")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes wait for; it ends with this process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
