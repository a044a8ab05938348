"""Pairs for indexes that are written without images."""

from reimagen_retriever.knowledge_base.pair import StoredPair


def stored(identifier: str, caption: str) -> StoredPair:
    """Return a pair with a caption; nothing else of it matters."""
    return StoredPair(
        id=identifier,
        caption=caption,
        shard="00000.tar",
        offset=0,
        length=1,
        sha256="",
        media_type="image/png",
        width=1,
        height=1,
    )
