"""The files of a source, in a local folder or in a store that fsspec reaches (`s3://`, `gs://`, `memory://`...).

Names are relative to the source's folder, with `/` between their parts. A fault of one file raises `RejectedError`. A
store that can't be reached raises `Unavailable` and ends the build, which resumes when it is run again: a broken
connection must not make images count as broken.
"""

import io
import os
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

import fsspec

from reimagen_common.errors import InvalidArgument, Unavailable
from reimagen_common.hidden import is_hidden
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError, has_control_characters

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+::?//|[a-z][a-z0-9+.-]+::", re.IGNORECASE)


@dataclass(frozen=True)
class Listing:
    """The content of a folder. Hidden files are in neither list."""

    names: list[str]
    """All files in the folder and its subfolders, sorted."""
    rejected: list[Rejected] = field(default_factory=list)
    """Folders that were not read."""

    def left_over(self, read: Container[str], reason: str) -> Iterator[Rejected]:
        """Yield a rejection for everything that is not read, so that nothing is left out silently.

        Args:
            read: Names of the files that are read.
            reason: Reason for rejecting the others.
        """
        yield from self.rejected
        yield from (Rejected(name, reason) for name in self.names if name not in read)


class Files(Protocol):
    """A folder of a source."""

    address: str

    def listing(self) -> Listing:
        """Return the content of the folder."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading and seeking.

        Raises:
            RejectedError: The file is outside the folder, does not exist or can't be read.
            Unavailable: The store does not answer.
        """

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's first bytes, at most one more than the limit, so that the caller can detect a longer file.

        Raises the same errors as `open`.
        """

    def stamp(self, name: str) -> str:
        """Return a file's size and its time or version, which change when the file does.

        Raises the same errors as `open`.
        """


def stamp_of(files: Files, name: str) -> str:
    """Return a file's name and stamp, or the error instead: a file that can't be read must not end a build."""
    try:
        return f"{name} {files.stamp(name)}"
    except RejectedError as error:
        return f"{name} {error}"


def is_address(text: str) -> bool:
    """Return whether this is an address for fsspec rather than a local path."""
    return _ADDRESS.match(text) is not None


def locate(address: str | Path) -> tuple[Files, str]:
    """Return the folder at an address and '', or for a single file its folder and its name.

    Raises:
        InvalidArgument: There is nothing at the address, or the package for such an address is not installed.
        Unavailable: The store does not answer.
    """
    if isinstance(address, Path) or not is_address(address):
        path = Path(address)
        if path.is_dir():
            return LocalFiles(path), ""
        if path.is_file():
            return LocalFiles(path.parent), path.name
        raise InvalidArgument(f"{path} is neither a folder nor a file", field="source")
    try:
        store, path_in_store = fsspec.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise InvalidArgument(f"{address} can't be reached: {error}", field="source") from error
    if "file" in _protocols(store):
        return locate(Path(path_in_store))
    try:
        if store.isdir(path_in_store):
            return RemoteFiles(store, path_in_store), ""
        if store.isfile(path_in_store):
            folder, _, name = path_in_store.rpartition("/")
            return RemoteFiles(store, folder), name
    except Exception as error:
        raise Unavailable(f"{address} does not answer: {_message(error)}", field="source") from error
    raise InvalidArgument(f"there is nothing at {address}", field="source")


class LocalFiles:
    """A local folder. Links that lead out of it are not followed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self.address = str(self._folder)

    def listing(self) -> Listing:
        """Return the content of the folder, see `Files`."""
        found, rejected = list[str](), list[Rejected]()

        def unreadable(error: OSError) -> None:
            location = os.path.relpath(error.filename, self._folder)
            rejected.append(Rejected(location, "unreadable folder", error.strerror or ""))

        for folder, folders, names in os.walk(self._folder, onerror=unreadable):
            within = "" if Path(folder) == self._folder else f"{os.path.relpath(folder, self._folder)}/"
            hidden = [name for name in folders if is_hidden(name)]
            linked = [name for name in folders if name not in hidden and Path(folder, name).is_symlink()]
            rejected += [Rejected(within + name, "linked folder", "such links are not followed") for name in linked]
            folders[:] = sorted({*folders} - {*hidden, *linked})
            found += [within + name for name in names if not is_hidden(name)]
        return Listing(sorted(found), sorted(rejected, key=lambda each: each.location))

    def open(self, name: str) -> BinaryIO:
        """Open a file, see `Files`."""
        path = self._path(name)
        try:
            if not path.is_file() and path.exists():
                raise RejectedError("unreadable file", f"{name!r} is not a regular file")
            return path.open("rb")
        except OSError as error:
            raise RejectedError("unreadable file", f"{name!r}: {error.strerror}") from error

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's first bytes, see `Files`."""
        try:
            with self.open(name) as file:
                return file.read(limit + 1)
        except OSError as error:
            raise RejectedError("unreadable file", f"{name!r}: {error.strerror}") from error

    def stamp(self, name: str) -> str:
        """Return a file's size and time, see `Files`."""
        try:
            status = self._path(name).stat()
        except OSError as error:
            raise RejectedError("unreadable file", f"{name!r}: {error.strerror}") from error
        return f"{status.st_size} {status.st_mtime_ns}"

    def _path(self, name: str) -> Path:
        try:
            path = (self._folder / name).resolve()
        except OSError as error:
            raise RejectedError("unreadable file", f"{name!r}: {error.strerror}") from error
        except (ValueError, RuntimeError) as error:  # A null byte, a lone surrogate, or a cycle of links.
            raise RejectedError("bad characters", f"{name!r} is not a valid file name") from error
        if not path.is_relative_to(self._folder):
            raise RejectedError("path outside the source", repr(name))
        return path


class RemoteFiles:
    """A folder of a store that fsspec reaches. The store's options control retries."""

    def __init__(self, store: fsspec.AbstractFileSystem, folder: str) -> None:
        self._store = store
        self._folder = folder.rstrip("/")
        self.address = store.unstrip_protocol(folder)

    def listing(self) -> Listing:
        """Return the content of the folder, see `Files`."""
        found = _call(self._store.find, "", self._folder)
        names = (path.removeprefix(self._folder).lstrip("/") for path in found)
        return Listing(sorted(name for name in names if not is_hidden(name)))

    def open(self, name: str) -> BinaryIO:
        """Open a file, see `Files`."""
        return io.BufferedReader(_Stream(_call(self._store.open, name, self._path(name), "rb"), name))

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's first bytes, see `Files`."""
        data: bytes = _call(self._store.cat_file, name, self._path(name), start=0, end=limit + 1)
        return data

    def stamp(self, name: str) -> str:
        """Return a file's size and version, see `Files`."""
        info = _call(self._store.info, name, self._path(name))
        version = next((info[key] for key in ("ETag", "etag", "mtime", "LastModified", "created") if info.get(key)), "")
        return f"{info.get('size')} {version}"

    def _path(self, name: str) -> str:
        if has_control_characters(name):
            raise RejectedError("bad characters", f"{name!r} is not a valid file name")
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise RejectedError("path outside the source", repr(name))
        return f"{self._folder}/{name}"


class _Stream(io.RawIOBase):
    """A remote file that raises this package's errors in place of the store's."""

    def __init__(self, file: Any, name: str) -> None:
        self._file = file
        self._name = name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = _call(self._file.read, self._name, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, location: int, whence: int = os.SEEK_SET) -> int:
        return int(_call(self._file.seek, self._name, location, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _call(method: Any, name: str, *arguments: Any, **options: Any) -> Any:
    try:
        return method(*arguments, **options)
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise RejectedError("unreadable file", f"{name!r}: {_message(error)}") from error
    except Exception as error:  # Each store has its own error classes.
        raise Unavailable(f"the source's store does not answer for {name!r}: {_message(error)}") from error


def _message(error: Exception) -> str:
    return str(error) or type(error).__name__


def _protocols(store: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    return (store.protocol,) if isinstance(store.protocol, str) else tuple(store.protocol)
