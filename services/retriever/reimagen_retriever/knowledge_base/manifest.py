"""The manifest: the file that makes a folder a finished knowledge base.

A knowledge base folder holds `manifest.json` and the data folder that it names, with `shards/` and `lucene/` in it. A
build writes a new data folder beside the old one and then replaces the manifest atomically. A reader sees either the
old base or the new one, and never an interrupted build.

A union has no data folder: its manifest names other knowledge bases, its parts, which are searched as one.

Live writes do not change the manifest. They store a `Changes` in the user data of Lucene's commit, so that captions,
locations of images and counts become visible in one step.
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

FORMAT_VERSION = 6
MANIFEST = "manifest.json"
_UNION_VERSION = 3
_NOTE = "reimagen"


class _Version(BaseModel):
    """The part of a manifest that all format versions share."""

    format_version: int = Field(description="Version of the folder's layout.")


class Vectors(BaseModel):
    """The description of the vectors of a base's pairs."""

    model_config = ConfigDict(frozen=True)

    folder: str = Field(
        pattern=r"^vectors-[0-9a-f]+$", description="Folder of the vectors, beside shards/ and lucene/."
    )
    of: Literal["texts", "images"] = Field(description="The part of a pair that was encoded.")
    kind: Literal["flat", "hnsw", "ivf-pq"] = Field(description="Type of the FAISS index.")
    pairs: int = Field(gt=0, description="Number of pairs with a vector.")
    dimension: int = Field(gt=0, description="Dimension of each vector.")
    encoder: str = Field(description="Folder of the encoder, which encodes queries too.")
    encoder_digest: str = Field(
        description="Digest of the encoder's files, which detects another encoder in its place."
    )
    minimum_cosine: float = Field(
        description="Least cosine of a neighbor; one in a thousand unrelated pairs has a greater one."
    )
    sha256: dict[str, str] = Field(
        default={}, description="SHA-256 of each file in hexadecimal, by name; empty in older bases."
    )

    @property
    def added(self) -> str:
        """The file of the vectors of pairs that were added since the build, see `Changes.appended`."""
        return f"{self.folder}/added"


class ImageStore(BaseModel):
    """The object store that holds a base's images."""

    model_config = ConfigDict(frozen=True)

    address: str = Field(description="Address of the base in the store for fsspec, such as s3://bucket/kb.")
    cache_megabytes: int = Field(
        gt=0, description="Size of the local image cache in MiB; least recently used go first."
    )
    seconds: float = Field(gt=0, description="Timeout for an image from the store, in seconds.")
    cache_folder: str = Field(
        default="images", description="Folder of the local image cache in the base's folder; a union's parts share one."
    )


class Manifest(_Version):
    """The manifest of a knowledge base."""

    model_config = ConfigDict(frozen=True)

    revision: str = Field(description="Identifier of the content, which changes with it; a build uses a digest of it.")
    folder: str = Field(
        pattern=r"^data-[0-9a-f]+$", description="Data folder with shards/ and lucene/, by the manifest."
    )
    created: datetime = Field(description="End of the build, UTC.")
    analysis: Analysis = Field(description="Text analysis and BM25 parameters.")
    pairs: int = Field(ge=0, description="Number of pairs.")
    licenses: dict[str, int] = Field(description="Number of pairs under each license; '' is unknown.")
    rejected: dict[str, int] = Field(description="Number of rejected entries of the source for each reason.")
    shards: list[Shard] = Field(description="Shards of the image store.")
    vectors: Vectors | None = Field(default=None, description="Vectors for dense search, if any were made.")
    fingerprints: dict[str, str] = Field(
        default={},
        description="SHA-256 of each file of fingerprints/ in hexadecimal, by name; see dedup.fingerprint_index.",
    )
    store: ImageStore | None = Field(
        default=None, description="Object store of the images, if this folder mirrors a base in a store."
    )

    @property
    def shards_folder(self) -> Path:
        """The folder of the shards, relative to the knowledge base."""
        return Path(self.folder, "shards")

    @property
    def lucene_folder(self) -> Path:
        """The folder of the index, relative to the knowledge base."""
        return Path(self.folder, "lucene")

    def after(self, changes: "Changes | None") -> "Manifest":
        """Return the manifest with the changes of live writes applied; None means no live writes."""
        if changes is None:
            return self
        now = {name: getattr(changes, name) for name in ("revision", "pairs", "licenses")}
        return self.model_copy(update={**now, "shards": [*self.shards, *changes.shards]})


class Part(BaseModel):
    """A base in a union."""

    model_config = ConfigDict(frozen=True)

    folder: str = Field(description="Folder of the knowledge base: absolute, or relative to the union's.")
    revision: str = Field(description="Revision of the base when its ids were compared with those of the other parts.")


class Union(_Version):
    """Knowledge bases that are searched as one."""

    model_config = ConfigDict(frozen=True)

    format_version: int = Field(default=_UNION_VERSION, description="Version of the folder's layout.")
    parts: list[Part] = Field(min_length=2, description="Bases of the union; no two have an id in common.")
    duplicates: dict[str, str] | None = Field(
        default=None,
        description="Id of a pair to the id of its near-duplicate in an earlier part, see dedup.cross_base; None if "
        "the parts were not compared.",
    )


def mark_commit(data_folder: Path) -> None:
    """Signal a commit of live writes to other processes by changing the folder's modification time."""
    # If this fails or the process is killed first, other processes notice the commit a little later.
    with suppress(OSError):
        now = time.time_ns()  # Finer than the clock that the file system uses by itself.
        os.utime(data_folder, ns=(now, now))


def commit_mark(data_folder: Path) -> int:
    """Return a value that changes with every commit of live writes; costs one system call."""
    try:
        return data_folder.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


class Changes(BaseModel):
    """The state of a base after live writes, where it differs from the build's manifest."""

    model_config = ConfigDict(frozen=True)

    sequence: int = Field(description="Number of the commit since the build, from 1.")
    revision: str = Field(description="Identifier of the current content.")
    pairs: int = Field(description="Current number of pairs.")
    licenses: dict[str, int] = Field(description="Current number of pairs under each license.")
    shards: list[Shard] = Field(description="Shards added since the build.")
    appended: dict[str, int] = Field(
        default={},
        description="Valid size in bytes of each append-only file, by its path in the data folder.",
    )

    @classmethod
    def read(cls, notes: Mapping[str, str]) -> Self | None:
        """Return the changes in a commit's user data; None for the commit of a build."""
        return cls.model_validate_json(notes[_NOTE]) if _NOTE in notes else None

    def notes(self) -> dict[str, str]:
        """Return the user data of the commit that publishes the changes."""
        return {_NOTE: self.model_dump_json()}


def read_manifest(knowledge_base: Path) -> Manifest:
    """Return the manifest of a knowledge base that can be changed or copied: all of its data is in its folder.

    Raises:
        NotFound: There is no complete knowledge base in the folder.
        InvalidArgument: The base is a union or a mirror, or the manifest is broken or of an unknown version.
    """
    manifest = read_any(knowledge_base)
    if isinstance(manifest, Union):
        parts = " ".join(os.path.normpath(knowledge_base / part.folder) for part in manifest.parts)
        raise InvalidArgument(
            f"{knowledge_base} is a union, which is read-only. Change one of its parts ({parts}), then run "
            f"`reimagen-retriever union {knowledge_base} {parts}` to update the union"
        )
    if manifest.store:
        raise InvalidArgument(
            f"{knowledge_base} is read-only: it mirrors the base at {manifest.store.address}. Change "
            "that base where it was built, copy a snapshot of it to the store, and restart the service"
        )
    return manifest


def read_any(knowledge_base: Path) -> Manifest | Union:
    """Return the manifest of a finished knowledge base or of a union.

    Raises:
        NotFound: There is no complete knowledge base in the folder.
        InvalidArgument: The manifest is broken or of an unknown version.
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
    """Parse the content of a manifest file.

    Args:
        text: Content of the file.
        location: Path or address of the file, for messages.

    Raises:
        InvalidArgument: The manifest is broken or of an unknown version.
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
    """Replace the manifest atomically; after a crash either the old or the new one is there."""
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
    """Return a value that changes whenever the manifest is replaced, or None if missing; costs one system call."""
    try:
        status = (knowledge_base / MANIFEST).stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
