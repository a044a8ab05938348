"""Snapshots: copies of a base by hard links; only the files that may still grow are copied.

A snapshot is a complete knowledge base: it can be searched and served in place.
"""

import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reimagen_common.errors import InvalidArgument, ReimagenError
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.dedup.cross_base import duplicates_across
from reimagen_retriever.dedup.fingerprint_index import ADDED
from reimagen_retriever.ingest.build import refuse_foreign_folder
from reimagen_retriever.knowledge_base.fingerprint import FOLDER
from reimagen_retriever.knowledge_base.folder_lock import LOCK_WAIT_SECONDS, Holder, locked
from reimagen_retriever.knowledge_base.leftovers import remove_leftovers
from reimagen_retriever.knowledge_base.manifest import (
    Manifest,
    Union,
    read_any,
    read_manifest,
    write_manifest,
)
from reimagen_retriever.knowledge_base.syncing import sync_folder, writing_to
from reimagen_retriever.knowledge_base.union import united
from reimagen_retriever.maintenance.union import union_of

_ATTEMPTS = 20


def snapshot(knowledge_base: Path, destination: Path) -> Manifest:
    """Save the current state of a base while it is searched and written to; parts of a union are saved in turn.

    Returns:
        The manifest of the snapshot.

    Raises:
        InvalidArgument: The destination is not a new or empty folder, the base is a mirror, or parts of a union now
            share an id.
        NotFound: There is no complete knowledge base in the folder.
        Unavailable: The destination is not writable.
        ReimagenError: The base is damaged.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise InvalidArgument(f"{destination} is not a new or empty folder", field="DEST")
    with _cleanup_on_error(destination), writing_to(destination):
        return _save(knowledge_base, destination)


def _save(knowledge_base: Path, destination: Path) -> Manifest:
    union = read_any(knowledge_base)
    if isinstance(union, Manifest):
        return _copy(knowledge_base, destination, "snapshot")
    names = [f"parts/{number:05d}" for number in range(len(union.parts))]
    for part, name in zip(union.parts, names, strict=True):
        _copy(knowledge_base / part.folder, destination / name, "snapshot")
    copies = [destination / name for name in names]
    base = KnowledgeBase.open_together(destination, copies)
    base.close()
    duplicates = union.duplicates
    if duplicates is not None and [part.revision for part in union.parts] != [part.revision for part in base.parts]:
        duplicates = duplicates_across(copies)
    write_manifest(destination, union_of(names, base.parts, duplicates))
    return united(base.parts, duplicates or {})


def restore(snapshot: Path, knowledge_base: Path) -> Manifest:
    """Replace a base with a snapshot, in one step; a service that serves the base switches to it automatically.

    Returns:
        The new manifest of the base.

    Raises:
        InvalidArgument: The folder has other files than a base, or the snapshot is of a union.
        NotFound: The snapshot is not a complete knowledge base.
        Unavailable: Another process writes to the base, or the folder is not writable.
        ReimagenError: The snapshot is damaged.
    """
    refuse_foreign_folder(knowledge_base)
    if isinstance(read_any(snapshot), Union):
        raise InvalidArgument(
            f"{snapshot} is a snapshot of a union: serve it in place, or restore its parts one by one",
            field="SNAPSHOT",
        )
    with _cleanup_on_error(knowledge_base), writing_to(knowledge_base):
        return _copy(snapshot, knowledge_base, "restore")


@contextmanager
def _cleanup_on_error(folder: Path) -> Iterator[None]:
    """Remove the folder again on an error if it is new, and empty it if it was empty."""
    existed = folder.exists()
    empty = not existed or not any(folder.iterdir())
    try:
        yield
    except BaseException:
        if empty and folder.exists():
            for path in folder.iterdir():
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if not existed:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _copy(source: Path, destination: Path, work: str) -> Manifest:
    read_manifest(source)
    KnowledgeBase.open(source).close()  # Fail before creating the destination.
    destination.mkdir(parents=True, exist_ok=True)
    with locked(destination, Holder(work=work), LOCK_WAIT_SECONDS):
        remove_leftovers(destination)
        for _ in range(_ATTEMPTS):
            folder = destination / f"data-{secrets.token_hex(8)}"
            base = KnowledgeBase.open(source)
            try:
                _link(base, source, folder)
                write_manifest(destination, base.built.model_copy(update={"folder": folder.name}))
            except FileNotFoundError:
                # A live write or a new build has replaced index files in the meantime.
                shutil.rmtree(folder)
                continue
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            finally:
                base.close()
            remove_leftovers(destination)
            return base.manifest.model_copy(update={"folder": folder.name})
    raise ReimagenError(f"cannot copy {source}: it changed during each of {_ATTEMPTS} attempts")


def _link(base: KnowledgeBase, source: Path, folder: Path) -> None:
    for name in ("lucene", "shards"):
        (folder / name).mkdir(parents=True)
    for name in base.index.files():
        _link_file(source / base.built.lucene_folder / name, folder / "lucene" / name)
    for shard in base.manifest.shards:
        file = source / base.built.shards_folder / shard.name
        if shard.live and shard is base.manifest.shards[-1]:
            _copy_growing(file, folder / "shards" / shard.name, shard.size, bytes(2 * tarfile.BLOCKSIZE))
        else:
            _link_file(file, folder / "shards" / shard.name)
    folders = [folder / "lucene", folder / "shards", folder]
    others = [base.built.vectors.folder] if base.built.vectors else []
    if base.built.fingerprints or ADDED in base.appended:
        others.append(FOLDER)
    for name in others:
        (folder / name).mkdir()
        for file in (source / base.built.folder / name).iterdir():
            appended = base.appended.get(f"{name}/{file.name}")
            if appended is None:
                _link_file(file, folder / name / file.name)
            else:
                _copy_growing(file, folder / name / file.name, appended)
        folders.append(folder / name)
    for each in folders:
        sync_folder(each)


def _link_file(file: Path, link: Path) -> None:
    try:
        link.hardlink_to(file)
    except FileNotFoundError:
        raise
    except OSError:  # Another disk, or a file system without hard links.
        shutil.copyfile(file, link)
        with link.open("rb") as copy:
            os.fsync(copy.fileno())


def _copy_growing(file: Path, copy: Path, size: int, end: bytes = b"") -> None:
    """Copy the committed bytes of a file that live writes may be appending to, and add an end marker."""
    with file.open("rb") as source, copy.open("xb") as target:
        left = size
        while left:
            data = source.read(min(left, 1024 * 1024))
            if not data:
                raise ReimagenError(f"{file} is shorter than the last commit says")
            target.write(data)
            left -= len(data)
        target.write(end)
        target.flush()
        os.fsync(target.fileno())
