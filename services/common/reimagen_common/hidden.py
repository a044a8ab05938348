"""Hidden files, which programs leave in folders and archives: they are ignored wherever images are read."""

from pathlib import PurePosixPath
from typing import Final

_LEFT_BY_SYSTEMS: Final = frozenset({"__macosx", "thumbs.db", "desktop.ini"})


def is_hidden(name: str) -> bool:
    """Whether a file or a folder on its way is hidden: `._a.jpg`, `.cache/a.jpg`, `__MACOSX/a.jpg`, `Thumbs.db`.

    Args:
        name: A path relative to the folder or archive, with `/` between its parts.
    """
    return any(
        (part.startswith(".") and part != "..") or part.lower() in _LEFT_BY_SYSTEMS
        for part in PurePosixPath(name).parts
    )
