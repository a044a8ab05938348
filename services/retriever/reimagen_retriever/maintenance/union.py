"""Several knowledge bases as one: a folder that names them."""

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
    """Makes a folder a union of bases as they are now, in one step; a service that serves it goes over by itself.

    Args:
        folder: A new one, or a union to be replaced.
        parts: The bases, which stay where they are. Relative ones may be moved together with the folder.
        near_duplicates: Whether to look for nearly the same images in different bases, of which searches then show
            the best alone; each pair is looked for in each base before its own.

    Returns:
        What the union is.

    Raises:
        InvalidArgument: there are fewer than two; they don't fit together, see `KnowledgeBase.open_together`; the
            folder holds other things than a union.
        NotFound: a part is no complete knowledge base.
        Unavailable: the folder cannot be written to.
        ReimagenError: a part is damaged.
    """
    if len(parts) < 2:
        raise InvalidArgument(f"must be two or more, got {len(parts)}", field="PART")
    _refuse_all_but_unions(folder)
    base = KnowledgeBase.open_together(folder, parts)
    base.close()
    duplicates = duplicates_across(parts) if near_duplicates else None
    named = [str(part) if part.is_absolute() else os.path.relpath(part, folder) for part in parts]
    folder.mkdir(parents=True, exist_ok=True)
    with writing_to(folder), locked(folder, Holder(work="union"), LOCK_WAIT_SECONDS):
        write_manifest(folder, union_of(named, base.parts, duplicates))
    return united(base.parts, duplicates or {})


def union_of(folders: Sequence[str], parts: Sequence[Manifest], duplicates: dict[str, str] | None) -> Union:
    """The union of bases that have no id in common.

    Args:
        folders: Of the bases, see `Part.folder`.
        parts: What they are.
        duplicates: See `Union`.
    """
    known = zip(folders, parts, strict=True)
    named = [Part(folder=name, revision=manifest.revision) for name, manifest in known]
    return Union(parts=named, duplicates=duplicates)


def _refuse_all_but_unions(folder: Path) -> None:
    refuse_foreign_folder(folder)
    try:
        there = read_any(folder)
    except NotFound:
        return
    if not isinstance(there, Union):
        raise InvalidArgument(f"{folder} holds a knowledge base; name a new folder", field="KB_DIR")
