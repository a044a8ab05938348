"""The files of a base in an object store, which are never waited for without end."""

from typing import Any

import fsspec
from fsspec.asyn import sync
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

from reimagen_common.errors import InvalidArgument, Unavailable


class Store:
    """A folder of an object store, whose answers are waited for no longer than is said; for many threads.

    Args:
        address: As fsspec takes it.

    Raises:
        InvalidArgument: what reaches such an address is not installed.
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
        """A file, or its bytes from `start` up to `end`.

        Raises:
            FileNotFoundError: there is no such file.
            Unavailable: the store does not give it in so many seconds.
        """
        data: bytes = self._ask(self._store._cat_file, name, seconds, start=start, end=end)
        return data

    def size(self, name: str, seconds: float) -> int:
        """How many bytes a file has.

        Raises what `read` raises.
        """
        return int(self._ask(self._store._info, name, seconds)["size"])

    def names(self, folder: str, seconds: float) -> list[str]:
        """The files of a folder, without folders in it.

        Raises what `read` raises.
        """
        found = self._ask(self._store._find, folder, seconds)
        if not found:  # To an object store, a folder is no more than a part of names.
            raise FileNotFoundError(folder)
        return sorted(path.rpartition("/")[2] for path in found)

    def _ask(self, ask: Any, name: str, seconds: float, **named: Any) -> Any:
        try:
            return sync(self._store.loop, ask, f"{self._folder}/{name}", timeout=seconds, **named)
        except FileNotFoundError:
            raise
        except Exception as error:  # Each store has errors of its own.
            why = str(error) or type(error).__name__
            raise Unavailable(f"{self.address} does not answer for {name}: {why}", retry_after=1.0) from error
