"""Access to the files of a base in an object store, with a timeout for every call."""

from typing import Any

import fsspec
from fsspec.asyn import sync
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

from reimagen_common.errors import InvalidArgument, Unavailable


class Store:
    """A folder of an object store, read with timeouts; thread-safe.

    Args:
        address: Address for fsspec.

    Raises:
        InvalidArgument: The package for such an address is not installed.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            store, folder = fsspec.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise InvalidArgument(f"{address} can't be reached: {error}", field="knowledge_base") from error
        self._store: Any = store if store.async_impl else AsyncFileSystemWrapper(store, asynchronous=False)
        self._folder = folder.rstrip("/")

    def read(self, name: str, seconds: float, start: int | None = None, end: int | None = None) -> bytes:
        """Return the content of a file, or its bytes from `start` up to `end`.

        Raises:
            FileNotFoundError: There is no such file.
            Unavailable: The store does not answer within the timeout.
        """
        data: bytes = self._call(self._store._cat_file, name, seconds, start=start, end=end)
        return data

    def size(self, name: str, seconds: float) -> int:
        """Return the size of a file in bytes.

        Raises the same errors as `read`.
        """
        return int(self._call(self._store._info, name, seconds)["size"])

    def names(self, folder: str, seconds: float) -> list[str]:
        """Return the names of the files in a folder, without subfolders.

        Raises the same errors as `read`.
        """
        found = self._call(self._store._find, folder, seconds)
        if not found:  # In an object store a folder is only a prefix of names, so an empty one does not exist.
            raise FileNotFoundError(folder)
        return sorted(path.rpartition("/")[2] for path in found)

    def _call(self, method: Any, name: str, seconds: float, **arguments: Any) -> Any:
        try:
            return sync(self._store.loop, method, f"{self._folder}/{name}", timeout=seconds, **arguments)
        except FileNotFoundError:
            raise
        except Exception as error:  # Each store has its own error classes.
            reason = str(error) or type(error).__name__
            raise Unavailable(f"{self.address} does not answer for {name}: {reason}", retry_after=1.0) from error
