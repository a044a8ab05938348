"""Cleanup of data folders of replaced bases and interrupted builds."""

import shutil
from pathlib import Path

from reimagen_common.errors import InvalidArgument, NotFound
from reimagen_retriever.knowledge_base.manifest import Union, read_any


def remove_leftovers(knowledge_base: Path, unfinished: str = "") -> None:
    """Remove the data folders of replaced bases and interrupted builds.

    Args:
        knowledge_base: Folder of the base.
        unfinished: Name of the data folder of a build that is resumed; it is not removed.
    """
    try:
        manifest = read_any(knowledge_base)
        current = "" if isinstance(manifest, Union) else manifest.folder
    except NotFound:
        current = ""
    except InvalidArgument:
        return  # The folders of a base of another version are unknown; they stay until the new base is complete.
    for leftover in knowledge_base.glob("data-*"):
        if leftover.name not in {current, unfinished}:
            shutil.rmtree(leftover)
