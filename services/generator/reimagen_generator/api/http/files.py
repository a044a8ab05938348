"""Memory for the images that are returned as links."""

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

from reimagen_common.errors import NotFound


@dataclass(frozen=True)
class StoredFile:
    """An image file in memory."""

    content: bytes
    """The content of the file."""
    media_type: str
    """Media type of the file, such as `image/png`."""
    owner: str
    """Id of the caller that the file belongs to."""
    expires: float
    """Time of expiry on the monotonic clock, in seconds."""
    pairs: frozenset[str]
    """Ids of the pairs that the image is grounded on."""


class FileStore:
    """A store of files in memory, under random names that cannot be guessed, for their owners only.

    Where keys are required, a name alone is not enough: names are in URLs, which end up in logs and histories.

    Files expire after a time limit; the oldest are dropped earlier if the store is full. The store is not thread-safe:
    use it from one event loop.
    """

    def __init__(self, *, seconds: float, maximum_bytes: int) -> None:
        """Create an empty store.

        Args:
            seconds: Time until a file expires.
            maximum_bytes: Maximum total size of all files. A single file may be larger.
        """
        self._seconds = seconds
        self._maximum_bytes = maximum_bytes
        self._files: OrderedDict[str, StoredFile] = OrderedDict()
        self._bytes = 0

    def add(self, content: bytes, media_type: str, *, owner: str, pairs: frozenset[str] = frozenset()) -> str:
        """Store a file of an owner, which is grounded on pairs, and return its name."""
        self._drop_expired()
        name = f"{secrets.token_urlsafe(18)}.{media_type.removeprefix('image/')}"
        self._files[name] = StoredFile(content, media_type, owner, time.monotonic() + self._seconds, pairs)
        self._bytes += len(content)
        while self._bytes > self._maximum_bytes and len(self._files) > 1:
            self._drop_oldest()
        return name

    def get(self, name: str, *, owner: str) -> StoredFile:
        """Return a file of an owner by its name.

        Raises:
            NotFound: The name is unknown, its file has expired, or it belongs to someone else.
        """
        self._drop_expired()
        found = self._files.get(name)
        if found is None or found.owner != owner:
            raise NotFound("no such image; links expire after an hour, or earlier if many images are drawn")
        return found

    def uses(self, pair_id: str) -> list[tuple[str, StoredFile]]:
        """Return the files of all owners that are grounded on a pair, with their names, newest first."""
        self._drop_expired()
        return [(name, file) for name, file in reversed(self._files.items()) if pair_id in file.pairs]

    def _drop_expired(self) -> None:
        now = time.monotonic()
        while self._files and next(iter(self._files.values())).expires <= now:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, dropped = self._files.popitem(last=False)
        self._bytes -= len(dropped.content)
