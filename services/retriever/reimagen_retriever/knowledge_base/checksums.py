"""Telling damage in files that never change again."""

import hashlib
from pathlib import Path


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a finished folder, in hexadecimal, by its name; none where there is no folder.

    Raises:
        OSError: one can't be read.
    """
    found = {}
    for path in sorted(folder.glob("*")):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
