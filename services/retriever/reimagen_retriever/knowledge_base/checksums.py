"""Checksums of files that never change again."""

import hashlib
from pathlib import Path


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a finished folder, in hexadecimal, by name; empty if there is no folder.

    Raises:
        OSError: A file can't be read.
    """
    found = {}
    for path in sorted(folder.glob("*")):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
