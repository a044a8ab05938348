"""Mirror of a base in an object store: a local copy of everything but the images, made before the base is served.

Lucene and FAISS read their files at random through the system's page cache, which needs a local disk.
"""

import hashlib
import logging
import math
import os
import posixpath
import shutil
from pathlib import Path

from reimagen_common.errors import InvalidArgument, NotFound, ReimagenError, Unavailable
from reimagen_retriever.knowledge_base.folder_lock import Holder, locked
from reimagen_retriever.knowledge_base.leftovers import remove_leftovers
from reimagen_retriever.knowledge_base.manifest import (
    MANIFEST,
    ImageStore,
    Manifest,
    Union,
    parse_manifest,
    read_any,
    write_manifest,
)
from reimagen_retriever.knowledge_base.store import Store
from reimagen_retriever.knowledge_base.syncing import sync_folder

_CHUNK_BYTES = 16 * 1024 * 1024
_TIMEOUT_SECONDS = 60.0  # for one chunk, or a listing
_PARTS = "parts"
_logger = logging.getLogger(__name__)


def mirror_folder(address: str, folder: Path) -> Path:
    """Return the subfolder for the mirror of the base at an address."""
    return folder.expanduser() / hashlib.sha256(address.encode()).hexdigest()[:16]


def mirror(store: ImageStore, folder: Path) -> None:
    """Create or update the mirror of a base; files that are already there are not copied again.

    A union is mirrored as a union of mirrors of its parts. Concurrent processes take turns. If the store does not
    answer, an existing mirror is used as it is.

    Raises:
        NotFound: There is no complete knowledge base at the address.
        InvalidArgument: The base is broken or of another version, or is a union whose parts are not in the store.
        Unavailable: The store does not answer and there is no mirror yet, or the local disk is full.
        ReimagenError: The base in the store is incomplete.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, Holder(work="serve"), math.inf):
            try:
                _update(store, folder)
            except Unavailable as error:
                _use_existing_mirror(store, folder, error)
    except OSError as error:
        raise Unavailable(f"cannot write to {folder}: {error.strerror}") from error


def _update(store: ImageStore, folder: Path) -> None:
    manifest = _remote_manifest(store.address)
    if isinstance(manifest, Manifest):
        _update_base(store, manifest, folder)
        shutil.rmtree(folder / _PARTS, ignore_errors=True)
        return
    parts = []
    for part in manifest.parts:
        address = _address_of_part(store.address, part.folder)
        part_manifest = _remote_manifest(address)
        if isinstance(part_manifest, Union):
            raise InvalidArgument(f"{address} is a union itself", field="knowledge_base")
        here = mirror_folder(address, folder / _PARTS)
        here.mkdir(parents=True, exist_ok=True)
        cache_folder = os.path.relpath(folder / store.cache_folder, here)
        _update_base(store.model_copy(update={"address": address, "cache_folder": cache_folder}), part_manifest, here)
        parts.append(part.model_copy(update={"folder": str(here.relative_to(folder))}))
    _write_manifest_if_changed(folder, manifest.model_copy(update={"parts": parts}))
    for leftover in (folder / _PARTS).iterdir():
        if str(leftover.relative_to(folder)) not in {part.folder for part in parts}:
            shutil.rmtree(leftover)


def _update_base(store: ImageStore, manifest: Manifest, folder: Path) -> None:
    manifest = manifest.model_copy(update={"store": store})
    if manifest != _existing_manifest(folder):
        try:
            _download_files(Store(store.address), manifest, folder)
        except FileNotFoundError as error:
            raise ReimagenError(f"{store.address} is incomplete: {error} is missing") from error
    _write_manifest_if_changed(folder, manifest)


def _write_manifest_if_changed(folder: Path, manifest: Manifest | Union) -> None:
    if manifest != _existing_manifest(folder):
        write_manifest(folder, manifest)
        remove_leftovers(folder)


def _use_existing_mirror(store: ImageStore, folder: Path, error: Unavailable) -> None:
    existing = _existing_manifest(folder)
    if existing is None:
        raise error
    _logger.warning("the store does not answer: serving the existing mirror", extra={"error": error.message})
    bases = [folder / part.folder for part in existing.parts] if isinstance(existing, Union) else [folder]
    settings = {"cache_megabytes": store.cache_megabytes, "seconds": store.seconds}
    for base in bases:
        manifest = _existing_manifest(base)
        if isinstance(manifest, Manifest) and manifest.store:
            _write_manifest_if_changed(
                base, manifest.model_copy(update={"store": manifest.store.model_copy(update=settings)})
            )


def _existing_manifest(folder: Path) -> Manifest | Union | None:
    try:
        return read_any(folder)
    except (NotFound, InvalidArgument):
        return None


def _remote_manifest(address: str) -> Manifest | Union:
    try:
        return parse_manifest(Store(address).read(MANIFEST, _TIMEOUT_SECONDS), f"{address}/{MANIFEST}")
    except FileNotFoundError as error:
        raise NotFound(
            f"{address} is not a complete knowledge base: it has no {MANIFEST}", field="knowledge_base"
        ) from error


def _address_of_part(union: str, folder: str) -> str:
    if Path(folder).is_absolute():
        raise InvalidArgument(
            f"{union} is a union that names a folder of another machine, {folder}: upload a `snapshot` of "
            "it, which includes its parts",
            field="knowledge_base",
        )
    scheme, separator, path = union.rpartition("://")
    return f"{scheme}{separator}{posixpath.normpath(posixpath.join(path, folder))}"


def _download_files(remote: Store, manifest: Manifest, folder: Path) -> None:
    shards = {shard.name for shard in manifest.shards}
    missing = shards.difference(remote.names(str(manifest.shards_folder), _TIMEOUT_SECONDS)) if shards else None
    if missing:
        raise FileNotFoundError(f"{manifest.shards_folder}/{min(missing)}")
    copied = [str(manifest.lucene_folder)]
    if manifest.vectors:
        copied.append(f"{manifest.folder}/{manifest.vectors.folder}")
    for name in copied:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in remote.names(name, _TIMEOUT_SECONDS):
            if file != "write.lock":
                _download_file(remote, f"{name}/{file}", folder / name / file)
        sync_folder(folder / name)


def _download_file(remote: Store, name: str, path: Path) -> None:
    """Download a file if it is missing, in chunks, so that a stalled transfer is noticed."""
    size = remote.size(name, _TIMEOUT_SECONDS)
    if path.exists() and path.stat().st_size == size:
        return
    _logger.info("downloading a file", extra={"file": name, "bytes": size})
    unfinished = path.with_name(f"{path.name}.part")
    with unfinished.open("wb") as file:
        for start in range(0, size, _CHUNK_BYTES):
            file.write(remote.read(name, _TIMEOUT_SECONDS, start, min(start + _CHUNK_BYTES, size)))
        if file.tell() != size:
            raise ReimagenError(f"{remote.address} returned {file.tell():,} bytes of {name}, which has {size:,}")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
