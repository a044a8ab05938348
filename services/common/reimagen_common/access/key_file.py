"""The file of API keys, which services read again when it changes, and the commands change."""

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from reimagen_common.access.keys import Key, KeyRing
from reimagen_common.errors import InvalidArgument, NotFound, first_fault

_logger = logging.getLogger(__name__)

# What changes if a file is replaced or written to.
_Stamp = tuple[int, int, int, int]


class KeyFile:
    """The keys of a file, by their ids. A change of the file is seen at the next look-up.

    If the changed file cannot be read, the keys that were read last remain, and the log says why: a typing error must
    not lock out every client. The commands always replace the file as a whole.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            InvalidArgument: The file does not exist or is no key file.
        """
        self._path = path
        self._stamp = _stamp_of(path)
        self._keys = _by_id(read_keys(path))

    def get(self, identifier: str) -> Key | None:
        """Return the key with a public id, or None if there is none."""
        stamp = _stamp_of(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._keys = _by_id(read_keys(self._path))
            except InvalidArgument as error:
                _logger.error("the key file cannot be read: its last keys remain", extra={"reason": error.message})
            else:
                _logger.info("the key file has changed", extra={"keys": len(self._keys)})
        return self._keys.get(identifier)


def read_keys(path: Path) -> KeyRing:
    """Return the content of a key file.

    Raises:
        InvalidArgument: The file does not exist or is no key file.
    """
    try:
        return KeyRing.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InvalidArgument(
            f"there is no key file {path}; make one with `reimagen-generator keys add NAME --file {path}`", field="keys"
        ) from error
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {error.strerror}", field="keys") from error
    except ValidationError as error:
        raise InvalidArgument(f"{path} is no key file: {first_fault(error)}", field="keys") from error


def add_key(path: Path, key: Key) -> None:
    """Add a key to a file, which is made if it does not exist.

    Raises:
        InvalidArgument: The file is no key file, or its folder does not exist.
    """
    with _locked(path):
        ring = read_keys(path) if path.exists() else KeyRing()
        _write(path, ring.model_copy(update={"keys": (*ring.keys, key)}))


def revoke_key(path: Path, identifier: str) -> Key:
    """Remove a key from a file, and return it. Services refuse it from now on.

    Raises:
        InvalidArgument: The file does not exist or is no key file.
        NotFound: No key has the id.
    """
    with _locked(path):
        ring = read_keys(path)
        found = _by_id(ring).get(identifier)
        if found is None:
            raise NotFound(f"no key of {path} has the id {identifier!r}; `keys list` prints the ids")
        _write(path, ring.model_copy(update={"keys": tuple(key for key in ring.keys if key is not found)}))
        return found


def _by_id(ring: KeyRing) -> Mapping[str, Key]:
    return {key.id: key for key in ring.keys}


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file's folder, so that concurrent commands change the file one after the other."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidArgument(f"cannot open the folder of {path}: {error.strerror}", field="keys") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, ring: KeyRing) -> None:
    """Replace the file in one step. A new file can be read by its owner only; an old one keeps its mode and owner."""
    target = path.resolve()
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(ring.model_dump_json(indent=1).encode() + b"\n")
            file.flush()
            if target.exists():
                old = target.stat()
                os.fchmod(file.fileno(), old.st_mode & 0o777)
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
