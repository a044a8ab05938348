"""The images that are answered as links."""

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

from reimagen_common.errors import NotFound


@dataclass(frozen=True)
class StoredFile:
    """An image file in memory."""

    content: bytes
    media_type: str
    expires: float


class FileStore:
    """Keeps files in memory for a while, under names that can't be guessed; the oldest give way to new ones.

    It belongs to one event loop: it is not safe to use from several threads.
    """

    def __init__(self, *, seconds: float, maximum_bytes: int) -> None:
        """Take how long a file is kept, and how much all of them may hold."""
        self._seconds = seconds
        self._maximum_bytes = maximum_bytes
        self._files: OrderedDict[str, StoredFile] = OrderedDict()
        self._bytes = 0

    def add(self, content: bytes, media_type: str) -> str:
        """Keep a file, and return its name."""
        self._drop_expired()
        name = f"{secrets.token_urlsafe(18)}.{media_type.removeprefix('image/')}"
        self._files[name] = StoredFile(content, media_type, expires=time.monotonic() + self._seconds)
        self._bytes += len(content)
        while self._bytes > self._maximum_bytes and len(self._files) > 1:
            self._drop_oldest()
        return name

    def get(self, name: str) -> StoredFile:
        """Return a file.

        Raises:
            NotFound: there is none of that name any more.
        """
        self._drop_expired()
        if name not in self._files:
            raise NotFound("there is no such image; links hold for an hour, less when many images are drawn")
        return self._files[name]

    def _drop_expired(self) -> None:
        now = time.monotonic()
        while self._files and next(iter(self._files.values())).expires <= now:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, dropped = self._files.popitem(last=False)
        self._bytes -= len(dropped.content)
