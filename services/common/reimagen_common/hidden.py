"""Detect hidden files, which are ignored in all folders and archives of images."""

from pathlib import PurePosixPath
from typing import Final

_SYSTEM_FILES: Final = frozenset({"__macosx", "thumbs.db", "desktop.ini"})


def is_hidden(name: str) -> bool:
    """Return whether a file or one of its folders is hidden: `._a.jpg`, `.cache/a.jpg`, `__MACOSX/a.jpg`, `Thumbs.db`.

    Args:
        name: A path relative to the folder or archive, with `/` between its parts.
    """
    return any(
        (part.startswith(".") and part != "..") or part.lower() in _SYSTEM_FILES for part in PurePosixPath(name).parts
    )
