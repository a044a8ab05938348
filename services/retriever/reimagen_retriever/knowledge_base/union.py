"""Unions: several bases searched as one, with a combined manifest and images from all parts."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from reimagen_retriever.knowledge_base.manifest import FORMAT_VERSION, Manifest, Vectors
from reimagen_retriever.knowledge_base.pair import StoredPair
from reimagen_retriever.knowledge_base.shards import Images


def united(parts: Sequence[Manifest], duplicates: Mapping[str, str]) -> Manifest:
    """Return the manifest of a base with all pairs of the parts; the data folder that it names does not exist.

    Args:
        parts: Manifests of the bases.
        duplicates: Near-duplicates across parts, see `Union`.
    """
    content = [*(part.revision for part in parts), *(part for pair in sorted(duplicates.items()) for part in pair)]
    revision = hashlib.sha256("\n".join(content).encode()).hexdigest()[:16]
    licenses, rejected = Counter[str](), Counter[str]()
    for part in parts:
        licenses.update(part.licenses)
        rejected.update(part.rejected)
    return Manifest(
        format_version=FORMAT_VERSION,
        revision=revision,
        folder=f"data-{revision}",
        created=max(part.created for part in parts),
        analysis=parts[0].analysis,
        pairs=sum(part.pairs for part in parts),
        licenses=dict(licenses.most_common()),
        rejected=dict(rejected.most_common()),
        shards=[
            shard.model_copy(update={"name": in_part(number, shard.name)})
            for number, part in enumerate(parts)
            for shard in part.shards
        ],
        vectors=_united_vectors([part.vectors for part in parts]),
    )


def in_part(part: int, shard: str) -> str:
    """Return the name in a union of a shard of the part with that number."""
    return f"{part:05d}/{shard}"


class UnionImages:
    """Reader of the images of a union's parts; shards have the names that `in_part` returns."""

    def __init__(self, parts: Sequence[Images]) -> None:
        self._parts = parts
        self.remote = any(part.remote for part in parts)
        """See `Images`."""

    def read(self, pair: StoredPair) -> bytes:
        """Return the image file, see `Images`."""
        part, _, shard = pair.shard.partition("/")
        return self._parts[int(part)].read(pair.model_copy(update={"shard": shard}))

    def degraded_reason(self) -> str | None:
        """Return the first reason of a part, see `Images`."""
        return next(filter(None, (part.degraded_reason() for part in self._parts)), None)

    def close(self) -> None:
        """Close the images of all parts."""
        for part in self._parts:
            part.close()


def _united_vectors(parts: Sequence[Vectors | None]) -> Vectors | None:
    """Return the description of the vectors of all pairs; None unless all parts have vectors of one encoder."""
    vectors = [part for part in parts if part]
    if len(vectors) < len(parts) or len({(each.encoder_digest, each.of, each.dimension) for each in vectors}) > 1:
        return None
    names = hashlib.sha256("\n".join(each.folder for each in vectors).encode()).hexdigest()[:16]
    largest = max(vectors, key=lambda each: each.pairs)
    together = {
        "folder": f"vectors-{names}",
        "pairs": sum(each.pairs for each in vectors),
        # The largest threshold: at most one in a thousand unrelated pairs exceeds it in every part.
        "minimum_cosine": max(each.minimum_cosine for each in vectors),
    }
    return largest.model_copy(update=together)
