"""Unions: folders that combine several knowledge bases by naming them."""

import os
from collections.abc import Sequence
from pathlib import Path

from reimagen_common.errors import InvalidArgument, NotFound
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.dedup.cross_base import duplicates_across
from reimagen_retriever.ingest.build import refuse_foreign_folder
from reimagen_retriever.knowledge_base.folder_lock import LOCK_WAIT_SECONDS, Holder, locked
from reimagen_retriever.knowledge_base.manifest import Manifest, Part, Union, read_any, write_manifest
from reimagen_retriever.knowledge_base.syncing import writing_to
from reimagen_retriever.knowledge_base.union import united


def unite(folder: Path, parts: Sequence[Path], *, near_duplicates: bool = True) -> Manifest:
    """Write a union of the current state of bases, in one step; a service that serves it switches automatically.

    Args:
        folder: New folder, or a union to replace.
        parts: Folders of the bases, which stay where they are. Relative ones may be moved together with the union.
        near_duplicates: Whether to find near-duplicates in different bases; searches then show only the best of them.
            Each pair is compared with each earlier base.

    Returns:
        The manifest of the union.

    Raises:
        InvalidArgument: There are fewer than two bases, they can't be combined (see `KnowledgeBase.open_together`), or
            the folder has other files than a union.
        NotFound: A part is not a complete knowledge base.
        Unavailable: The folder is not writable.
        ReimagenError: A part is damaged.
    """
    if len(parts) < 2:
        raise InvalidArgument(f"must be two or more, got {len(parts)}", field="PART")
    _refuse_all_but_unions(folder)
    base = KnowledgeBase.open_together(folder, parts)
    base.close()
    duplicates = duplicates_across(parts) if near_duplicates else None
    names = [str(part) if part.is_absolute() else os.path.relpath(part, folder) for part in parts]
    folder.mkdir(parents=True, exist_ok=True)
    with writing_to(folder), locked(folder, Holder(work="union"), LOCK_WAIT_SECONDS):
        write_manifest(folder, union_of(names, base.parts, duplicates))
    return united(base.parts, duplicates or {})


def union_of(folders: Sequence[str], parts: Sequence[Manifest], duplicates: dict[str, str] | None) -> Union:
    """Return the union of bases that have no id in common.

    Args:
        folders: Folders of the bases, see `Part.folder`.
        parts: Manifests of the bases.
        duplicates: Near-duplicates across bases, see `Union`.
    """
    pairs = zip(folders, parts, strict=True)
    union_parts = [Part(folder=name, revision=manifest.revision) for name, manifest in pairs]
    return Union(parts=union_parts, duplicates=duplicates)


def _refuse_all_but_unions(folder: Path) -> None:
    refuse_foreign_folder(folder)
    try:
        existing = read_any(folder)
    except NotFound:
        return
    if not isinstance(existing, Union):
        raise InvalidArgument(f"{folder} is a knowledge base; name a new folder or a union", field="KB_DIR")
