"""Data folders that replaced bases and interrupted builds left behind."""

import shutil
from pathlib import Path

from reimagen_common.errors import InvalidArgument, NotFound
from reimagen_retriever.knowledge_base.manifest import Union, read_any


def remove_leftovers(knowledge_base: Path, unfinished: str = "") -> None:
    """Removes what replaced bases and interrupted builds left, but for the one that goes on."""
    try:
        manifest = read_any(knowledge_base)
        current = "" if isinstance(manifest, Union) else manifest.folder
    except NotFound:
        current = ""
    except InvalidArgument:
        return  # Nobody can tell what belongs to a base of another version; it stays until the new one is whole.
    for leftover in knowledge_base.glob("data-*"):
        if leftover.name not in {current, unfinished}:
            shutil.rmtree(leftover)
