"""The version of Lucene: the one that runs, and the one that wrote an index.

Lucene writes its version into each commit. It reads what older versions wrote, back to the previous major version. It
does not read what a newer one wrote, and reports such an index as if it were damaged.
"""

import re
import zlib
from pathlib import Path

from reimagen_retriever.index.jvm import in_java, java_class, start_jvm
from reimagen_retriever.knowledge_base.damage import NewerLuceneError

_COMMIT = re.compile(r"segments_([0-9a-z]+)")
# As Lucene's CodecUtil writes them. The header is a magic number, a name, a format version, an id of 16 bytes, and a
# suffix after its length. The footer ends with a checksum of all before it.
_HEADER = b"\x3f\xd7\x6c\x17\x08segments"
_FORMAT_AND_ID = 4 + 16
_CHECKSUM = 8

Version = tuple[int, int, int]


def written_by(folder: Path) -> Version | None:
    """Return the version of Lucene that wrote the last commit of an index; None if there is none or it is damaged."""
    try:
        commits = [(int(match[1], 36), path) for path in folder.iterdir() if (match := _COMMIT.fullmatch(path.name))]
        data = max(commits)[1].read_bytes()
    except (OSError, ValueError):
        return None
    content, checksum = data[:-_CHECKSUM], data[-_CHECKSUM:]
    if not data.startswith(_HEADER) or zlib.crc32(content) != int.from_bytes(checksum):
        return None
    suffix = len(_HEADER) + _FORMAT_AND_ID
    start = suffix + 1 + data[suffix]
    # Variable-length integers, of one byte each below 128.
    major, minor, bugfix = data[start : start + 3]
    return major, minor, bugfix


@in_java
def running() -> Version:
    """Return the version of Lucene in Pyserini's jar."""
    start_jvm()
    latest = java_class("org.apache.lucene.util.Version").LATEST
    return latest.major, latest.minor, latest.bugfix


def refuse_newer(folder: Path) -> None:
    """Raise an error if a newer Lucene wrote the last commit of an index.

    Releases that differ only in the bugfix write the same formats.

    Raises:
        NewerLuceneError: A newer Lucene wrote the last commit. The message says what to do.
    """
    written, own = written_by(folder), running()
    if written and written[:2] > own[:2]:
        newer = "Python 3.12 or newer" if own < (10, 0, 0) else "a newer Pyserini"
        raise NewerLuceneError(
            f"Lucene {dotted(written)} wrote its index, which Lucene {dotted(own)} of this program cannot read: "
            f"use {newer}, or build the knowledge base again with this program"
        )


def dotted(version: Version) -> str:
    """Return a version as text, such as 9.9.1."""
    return ".".join(map(str, version))
