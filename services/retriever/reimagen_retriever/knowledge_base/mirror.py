"""What of a base in an object store is brought to this machine before it is served: all but the images.

Lucene and FAISS read their files through the system's page cache, at random: a store can't stand in for a disk.
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

_AT_ONCE = 16 * 1024 * 1024
_SECONDS = 60.0  # for so many bytes, or a listing
_PARTS = "parts"
_logger = logging.getLogger(__name__)


def mirror_folder(address: str, folder: Path) -> Path:
    """Where in a folder the base of an address is kept."""
    return folder.expanduser() / hashlib.sha256(address.encode()).hexdigest()[:16]


def mirror(store: ImageStore, folder: Path) -> None:
    """Makes a folder a knowledge base whose images are in a store; what is there already is not brought again.

    A union becomes a union of what is brought of its parts. Processes that do this at once take turns. If the store
    does not answer, what was brought before is kept.

    Raises:
        NotFound: there is no complete knowledge base at the address.
        InvalidArgument: it is broken, or of another version, or a union that doesn't tell where in the store its
            parts are.
        Unavailable: the store does not answer, and nothing was brought before; or there is no room here.
        ReimagenError: the base there is not whole.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, Holder(work="serve"), math.inf):
            try:
                _bring(store, folder)
            except Unavailable as error:
                _go_on_with_what_is_there(store, folder, error)
    except OSError as error:
        raise Unavailable(f"cannot write to {folder}: {error.strerror}") from error


def _bring(store: ImageStore, folder: Path) -> None:
    manifest = _manifest(store.address)
    if isinstance(manifest, Manifest):
        _bring_base(store, manifest, folder)
        shutil.rmtree(folder / _PARTS, ignore_errors=True)
        return
    parts = []
    for part in manifest.parts:
        address = _address_of_part(store.address, part.folder)
        of_part = _manifest(address)
        if isinstance(of_part, Union):
            raise InvalidArgument(f"{address} is a union itself", field="knowledge_base")
        here = mirror_folder(address, folder / _PARTS)
        here.mkdir(parents=True, exist_ok=True)
        kept = os.path.relpath(folder / store.kept, here)
        _bring_base(store.model_copy(update={"address": address, "kept": kept}), of_part, here)
        parts.append(part.model_copy(update={"folder": str(here.relative_to(folder))}))
    _make(folder, manifest.model_copy(update={"parts": parts}))
    for leftover in (folder / _PARTS).iterdir():
        if str(leftover.relative_to(folder)) not in {part.folder for part in parts}:
            shutil.rmtree(leftover)


def _bring_base(store: ImageStore, manifest: Manifest, folder: Path) -> None:
    manifest = manifest.model_copy(update={"store": store})
    if manifest != _there(folder):
        try:
            _bring_files(Store(store.address), manifest, folder)
        except FileNotFoundError as error:
            raise ReimagenError(f"{store.address} is not whole: {error} is not there") from error
    _make(folder, manifest)


def _make(folder: Path, manifest: Manifest | Union) -> None:
    if manifest != _there(folder):
        write_manifest(folder, manifest)
        remove_leftovers(folder)


def _go_on_with_what_is_there(store: ImageStore, folder: Path, error: Unavailable) -> None:
    there = _there(folder)
    if there is None:
        raise error
    _logger.warning("the store does not answer: serving what was brought before", extra={"error": error.message})
    bases = [folder / part.folder for part in there.parts] if isinstance(there, Union) else [folder]
    settings = {"cache_megabytes": store.cache_megabytes, "seconds": store.seconds}
    for base in bases:
        manifest = _there(base)
        if isinstance(manifest, Manifest) and manifest.store:
            _make(base, manifest.model_copy(update={"store": manifest.store.model_copy(update=settings)}))


def _there(folder: Path) -> Manifest | Union | None:
    try:
        return read_any(folder)
    except (NotFound, InvalidArgument):
        return None


def _manifest(address: str) -> Manifest | Union:
    try:
        return parse_manifest(Store(address).read(MANIFEST, _SECONDS), f"{address}/{MANIFEST}")
    except FileNotFoundError as error:
        raise NotFound(
            f"{address} is not a complete knowledge base: it has no {MANIFEST}", field="knowledge_base"
        ) from error


def _address_of_part(union: str, folder: str) -> str:
    if Path(folder).is_absolute():
        raise InvalidArgument(
            f"{union} is a union that names a folder of another machine, {folder}: `snapshot` makes one that has its "
            "parts with it",
            field="knowledge_base",
        )
    scheme, separator, path = union.rpartition("://")
    return f"{scheme}{separator}{posixpath.normpath(posixpath.join(path, folder))}"


def _bring_files(remote: Store, manifest: Manifest, folder: Path) -> None:
    shards = {shard.name for shard in manifest.shards}
    missing = shards.difference(remote.names(str(manifest.shards_folder), _SECONDS)) if shards else None
    if missing:
        raise FileNotFoundError(f"{manifest.shards_folder}/{min(missing)}")
    brought = [str(manifest.lucene_folder)]
    if manifest.vectors:
        brought.append(f"{manifest.folder}/{manifest.vectors.folder}")
    for name in brought:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in remote.names(name, _SECONDS):
            if file != "write.lock":
                _bring_file(remote, f"{name}/{file}", folder / name / file)
        sync_folder(folder / name)


def _bring_file(remote: Store, name: str, path: Path) -> None:
    """Brings a file by pieces, so that one that stalls is found out, unless it is there."""
    size = remote.size(name, _SECONDS)
    if path.exists() and path.stat().st_size == size:
        return
    _logger.info("bringing a file", extra={"file": name, "bytes": size})
    unfinished = path.with_name(f"{path.name}.part")
    with unfinished.open("wb") as file:
        for start in range(0, size, _AT_ONCE):
            file.write(remote.read(name, _SECONDS, start, min(start + _AT_ONCE, size)))
        if file.tell() != size:
            raise ReimagenError(f"{remote.address} gave {file.tell():,} bytes of {name}, which has {size:,}")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
