"""What of a base in an object store is brought to this machine before it is served: all but the pictures.

Lucene and FAISS read their files through the system's page cache, at random: a store can't stand in for a disk.
"""

import hashlib
import logging
import math
import os
from pathlib import Path

from reimagen_common.errors import InvalidArgument, NotFound, ReimagenError, Unavailable
from reimagen_retriever.build import remove_leftovers
from reimagen_retriever.folder_lock import Holder, locked
from reimagen_retriever.knowledge_base.manifest import (
    MANIFEST,
    Manifest,
    PictureStore,
    parse_manifest,
    read_any,
    write_manifest,
)
from reimagen_retriever.knowledge_base.store import Store
from reimagen_retriever.knowledge_base.syncing import sync_folder

_AT_ONCE = 16 * 1024 * 1024
_SECONDS = 60.0  # for so many bytes, or a listing
_logger = logging.getLogger(__name__)


def mirror_folder(address: str, folder: Path) -> Path:
    """Where in a folder the base of an address is kept."""
    return folder.expanduser() / hashlib.sha256(address.encode()).hexdigest()[:16]


def mirror(store: PictureStore, folder: Path) -> None:
    """Makes a folder a knowledge base whose pictures are in a store; what is there already is not brought again.

    Processes that do this at once take turns. If the store does not answer, what was brought before is kept.

    Raises:
        NotFound: there is no finished knowledge base at the address.
        InvalidArgument: it is a union, or broken, or of another version.
        Unavailable: the store does not answer, and nothing was brought before; or there is no room here.
        ReimagenError: the base there is not whole.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, Holder(work="serve"), math.inf):
            _bring(store, folder)
    except OSError as error:
        raise Unavailable(f"cannot write to {folder}: {error.strerror}") from error


def _bring(store: PictureStore, folder: Path) -> None:
    remote = Store(store.address)
    there = _there(folder)
    try:
        manifest = _manifest(remote).model_copy(update={"store": store})
        if manifest != there:
            _bring_files(remote, manifest, folder)
    except FileNotFoundError as error:
        raise ReimagenError(f"{store.address} is not whole: {error} is not there") from error
    except Unavailable as error:
        if there is None:
            raise
        _logger.warning("the store does not answer: serving what was brought before", extra={"error": error.message})
        manifest = there.model_copy(update={"store": store})
    if manifest != there:
        write_manifest(folder, manifest)
        remove_leftovers(folder)


def _there(folder: Path) -> Manifest | None:
    try:
        manifest = read_any(folder)
    except (NotFound, InvalidArgument):
        return None
    return manifest if isinstance(manifest, Manifest) else None


def _manifest(remote: Store) -> Manifest:
    try:
        manifest = parse_manifest(remote.read(MANIFEST, _SECONDS), f"{remote.address}/{MANIFEST}")
    except FileNotFoundError as error:
        raise NotFound(
            f"{remote.address} is no finished knowledge base: it has no {MANIFEST}", field="knowledge_base"
        ) from error
    if not isinstance(manifest, Manifest):
        raise InvalidArgument(f"{remote.address} is a union: name one of its parts", field="knowledge_base")
    return manifest


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
