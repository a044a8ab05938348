"""The manifest: the one file whose presence makes a folder a finished knowledge base.

A knowledge base folder holds `manifest.json` and the folder that it names, with `shards/` and `lucene/` in it. A build
writes a new such folder beside the old one and then replaces the manifest in one step, so that a reader sees either
the old base or the new one, and an interrupted build is never seen.

A union has no such folder: its manifest names other knowledge bases, its parts, which are searched as one.

The manifest stays what the build wrote. What live writes have changed since is a `Changes` in the notes of Lucene's
last commit, so that one step makes texts, places of images and counts seen.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reimagen_common.errors import InvalidArgument, NotFound, first_fault
from reimagen_retriever.knowledge_base.analysis import Analysis
from reimagen_retriever.knowledge_base.shards import Shard
from reimagen_retriever.knowledge_base.syncing import sync_folder

FORMAT_VERSION = 5
MANIFEST = "manifest.json"
_UNION_VERSION = 3
_NOTE = "reimagen"


class _Version(BaseModel):
    """What a manifest of any version says of itself."""

    format_version: int = Field(description="Of the layout of the folder.")


class Vectors(BaseModel):
    """What is known of the vectors of a base's pairs."""

    model_config = ConfigDict(frozen=True)

    folder: str = Field(pattern=r"^vectors-[0-9a-f]+$", description="Where they are, beside shards/ and lucene/.")
    of: Literal["texts", "images"] = Field(description="What of a pair was encoded.")
    kind: Literal["flat", "hnsw", "ivf-pq"] = Field(description="Of FAISS's index.")
    pairs: int = Field(gt=0, description="How many there are.")
    dimension: int = Field(gt=0, description="Of each.")
    encoder: str = Field(description="Folder of the encoder, which queries are encoded with too.")
    encoder_digest: str = Field(description="Of the encoder's files, so that no other one takes its location.")
    minimum_cosine: float = Field(description="What makes a neighbor: one in a thousand of unrelated pairs has more.")
    sha256: dict[str, str] = Field(default={}, description="Of each file, by its name; older bases have none.")

    @property
    def added(self) -> str:
        """The file of the vectors of pairs that were added since, see `Changes.appended`."""
        return f"{self.folder}/added"


class ImageStore(BaseModel):
    """An object store that has a base's images."""

    model_config = ConfigDict(frozen=True)

    address: str = Field(description="Of the base there, as fsspec takes it, such as s3://bucket/kb.")
    cache_megabytes: int = Field(gt=0, description="How much of the images is kept here: the last used.")
    seconds: float = Field(gt=0, description="How long the store may take for an image.")
    kept: str = Field(
        default="images", description="Where images are kept here, in the base's folder; a union's parts share one."
    )


class Manifest(_Version):
    """What a knowledge base is."""

    model_config = ConfigDict(frozen=True)

    revision: str = Field(description="Changes whenever the content does; of a build, a digest of the content.")
    folder: str = Field(pattern=r"^data-[0-9a-f]+$", description="Where shards/ and lucene/ are, beside the manifest.")
    created: datetime = Field(description="When the build ended, UTC.")
    analysis: Analysis = Field(description="How texts are searched.")
    pairs: int = Field(ge=0, description="How many pairs there are.")
    licenses: dict[str, int] = Field(description="License to the number of pairs under it; '' is unknown.")
    rejected: dict[str, int] = Field(description="Reason to the number of entries of the source that were left out.")
    shards: list[Shard] = Field(description="The image store.")
    vectors: Vectors | None = Field(default=None, description="For dense search, where they were made.")
    fingerprints: dict[str, str] = Field(
        default={}, description="SHA-256 of the files of fingerprints/, by their names; see neighbors.kept."
    )
    store: ImageStore | None = Field(
        default=None, description="What has the images, if this is what is kept here of a base in an object store."
    )

    @property
    def shards_folder(self) -> Path:
        """Relative to the knowledge base."""
        return Path(self.folder, "shards")

    @property
    def lucene_folder(self) -> Path:
        """Relative to the knowledge base."""
        return Path(self.folder, "lucene")

    def after(self, changes: "Changes | None") -> "Manifest":
        """The base as it is after live writes; None stands for none."""
        if changes is None:
            return self
        now = {name: getattr(changes, name) for name in ("revision", "pairs", "licenses")}
        return self.model_copy(update={**now, "shards": [*self.shards, *changes.shards]})


class Part(BaseModel):
    """One of the bases that a union is of."""

    model_config = ConfigDict(frozen=True)

    folder: str = Field(description="Of the knowledge base: absolute, or relative to the union's.")
    revision: str = Field(description="What it was when its ids were compared with those of the other parts.")


class Union(_Version):
    """Knowledge bases that are searched as one."""

    model_config = ConfigDict(frozen=True)

    format_version: int = Field(default=_UNION_VERSION, description="Of the layout of the folder.")
    parts: list[Part] = Field(min_length=2, description="The bases; each has ids of its own.")
    duplicates: dict[str, str] | None = Field(
        default=None, description="Near-duplicates in different parts, see `neighbors.across`; None if not looked for."
    )


def mark_commit(data_folder: Path) -> None:
    """Tells other processes, after a commit of live writes, that there is one: moves the folder's time."""
    # Who is not told, because this fails or is killed before, finds out a little later.
    with suppress(OSError):
        now = time.time_ns()  # Finer than the system's own clock of files.
        os.utime(data_folder, ns=(now, now))


def commit_mark(data_folder: Path) -> int:
    """Changes with every commit of live writes; costs one system call."""
    try:
        return data_folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


class Changes(BaseModel):
    """What a base has become by live writes since it was built."""

    model_config = ConfigDict(frozen=True)

    sequence: int = Field(description="Number of the commit since the build, from 1.")
    revision: str = Field(description="Of the content now.")
    pairs: int = Field(description="How many pairs there are now.")
    licenses: dict[str, int] = Field(description="License to the number of pairs under it now.")
    shards: list[Shard] = Field(description="Those that have come since the build.")
    appended: dict[str, int] = Field(
        default={},
        description="Bytes that count of each file that is appended to, by its location in the base's folder.",
    )

    @classmethod
    def read(cls, notes: Mapping[str, str]) -> Self | None:
        """The changes that a commit's notes tell of; None for the commit of a build."""
        return cls.model_validate_json(notes[_NOTE]) if _NOTE in notes else None

    def notes(self) -> dict[str, str]:
        """The notes of the commit that makes the changes seen."""
        return {_NOTE: self.model_dump_json()}


def read_manifest(knowledge_base: Path) -> Manifest:
    """The manifest of a finished knowledge base all of which is in its folder, so that it can be changed or copied.

    Raises:
        NotFound: there is no complete knowledge base in the folder.
        InvalidArgument: its images or all of it are elsewhere; the manifest is broken, or of a version that this
            program does not know.
    """
    manifest = read_any(knowledge_base)
    if isinstance(manifest, Union):
        parts = " ".join(os.path.normpath(knowledge_base / part.folder) for part in manifest.parts)
        raise InvalidArgument(
            f"{knowledge_base} is a union, which is only read. Change one of its parts ({parts}); then "
            f"`reimagen-retriever union {knowledge_base} {parts}` takes up what they have become"
        )
    if manifest.store:
        raise InvalidArgument(
            f"{knowledge_base} is only read: it is what is kept here of the base at {manifest.store.address}. Change "
            "that base where it was made, bring a snapshot of it to the store, and start the service again"
        )
    return manifest


def read_any(knowledge_base: Path) -> Manifest | Union:
    """The manifest of a finished knowledge base, or of a union of them.

    Raises:
        NotFound: there is no complete knowledge base in the folder.
        InvalidArgument: the manifest is broken, or of a version that this program does not know.
    """
    path = knowledge_base / MANIFEST
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"{knowledge_base} is not a complete knowledge base: it has no {MANIFEST}. "
            f"Build it with `reimagen-retriever build SOURCE {knowledge_base}`"
        ) from error
    return parse_manifest(text, str(path))


def parse_manifest(text: bytes, location: str) -> Manifest | Union:
    """A manifest from its file.

    Args:
        text: The file.
        location: Where it lies, for messages.

    Raises:
        InvalidArgument: it is broken, or of a version that this program does not know.
    """
    try:
        version = _Version.model_validate_json(text).format_version
        if version == _UNION_VERSION:
            return Union.model_validate_json(text)
        if version != FORMAT_VERSION:
            raise InvalidArgument(
                f"{location} has format version {version}, this program reads {FORMAT_VERSION}: build it again with "
                f"`reimagen-retriever build SOURCE {location.removesuffix(MANIFEST).rstrip('/')}`, "
                "or use the program that built it"
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise InvalidArgument(f"{location} is broken, build the knowledge base again: {first_fault(error)}") from error


def write_manifest(knowledge_base: Path, manifest: Manifest | Union) -> None:
    """Replaces the manifest in one step that survives a crash on either side of it."""
    path = knowledge_base / MANIFEST
    unfinished = path.with_suffix(".json.new")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(manifest.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(knowledge_base)


def manifest_stamp(knowledge_base: Path) -> tuple[int, int] | None:
    """Changes whenever the manifest is replaced; None while there is none. Costs one system call."""
    try:
        status = (knowledge_base / MANIFEST).stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
