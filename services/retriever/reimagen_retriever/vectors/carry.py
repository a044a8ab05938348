"""Copy the vectors of a base when it is rewritten."""

from pathlib import Path

from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.dense import DenseWriter, kind_for
from reimagen_retriever.knowledge_base.checksums import checksums
from reimagen_retriever.knowledge_base.damage import DamagedError
from reimagen_retriever.knowledge_base.manifest import Vectors
from reimagen_retriever.knowledge_base.syncing import sync_folder

_AT_ONCE = 1_024


def carry_vectors(base: KnowledgeBase, folder: Path) -> Vectors | None:
    """Write the vectors of a base into the folder of its successor, in the order of its pairs.

    Returns:
        The manifest's entry of the vectors. None if the base has no vectors or no pairs.

    Raises:
        DamagedError: A pair has no vector.
    """
    vectors = base.built.vectors
    if vectors is None or base.dense is None:
        return None
    documents = base.index.in_order()
    if not documents:
        return None
    writer = DenseWriter(folder / vectors.folder, len(documents), vectors.dimension)
    for start in range(0, len(documents), _AT_ONCE):
        ids = [pair.id for pair in base.index.read(documents[start : start + _AT_ONCE])]
        found = base.dense.vectors_of(ids)
        missing = [identifier for identifier in ids if identifier not in found]
        if missing:
            raise DamagedError(f"the pair {missing[0]!r} has no vector")
        writer.add([found[identifier] for identifier in ids])
    kind = kind_for(len(documents))
    writer.finish(kind, (base.index.pair(document).id for document in documents))
    sync_folder(folder / vectors.folder)
    sync_folder(folder)
    files = checksums(folder / vectors.folder)
    return vectors.model_copy(update={"kind": kind, "pairs": len(documents), "sha256": files})
