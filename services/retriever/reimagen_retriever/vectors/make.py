"""Compute the vectors of a knowledge base."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reimagen_common.errors import InvalidArgument, ReimagenError
from reimagen_common.progress import progress_bar
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.dense import DenseWriter, kind_for
from reimagen_retriever.index.encoder import Encoder
from reimagen_retriever.knowledge_base.checksums import checksums
from reimagen_retriever.knowledge_base.folder_lock import LOCK_WAIT_SECONDS, Holder, locked
from reimagen_retriever.knowledge_base.manifest import Manifest, Vectors, read_manifest, write_manifest
from reimagen_retriever.knowledge_base.pair import StoredPair
from reimagen_retriever.knowledge_base.syncing import sync_folder, writing_to
from reimagen_retriever.vectors.precomputed import Of, Precomputed

_AT_ONCE = 256
_COMPARED = 1_000
_UNRELATED_ABOVE = 1e-3


def make_vectors(
    knowledge_base: Path, encoder_folder: Path, of: Of | None = None, given: Path | None = None
) -> Manifest:
    """Compute the vectors of all pairs. Existing vectors are replaced once the new ones are complete.

    An interrupted run resumes when it is called again.

    Args:
        knowledge_base: The folder of a complete base.
        encoder_folder: See `EncoderFiles`. The encoder also encodes the queries.
        of: The part of a pair to encode. Default: the image if the encoder can encode images, else the caption.
        given: Folder of vectors that the same encoder has already computed, see `Precomputed`.

    Returns:
        The new manifest of the base.

    Raises:
        NotFound: The folder holds no complete knowledge base.
        InvalidArgument: The encoder or the given vectors do not fit the base, or the base is a union.
        ReimagenError: The base is damaged, or another process writes to it.
    """
    read_manifest(knowledge_base)
    encoder = Encoder(encoder_folder)
    of = of or ("images" if encoder.images_too else "texts")
    if of == "images" and not encoder.images_too and given is None:
        raise InvalidArgument(f"{encoder_folder} has no vision_model.onnx: it encodes only texts", field="of")
    precomputed = Precomputed(given, of, encoder.dimension) if given else None
    with writing_to(knowledge_base), locked(knowledge_base, Holder(work="vectors"), LOCK_WAIT_SECONDS):
        base = KnowledgeBase.open(knowledge_base)
        try:
            inputs = (base.manifest.revision, encoder.digest, of, precomputed.identity() if precomputed else "")
            name = f"vectors-{hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]}"
            if base.manifest.vectors and base.manifest.vectors.folder == name:
                return base.manifest
            folder = knowledge_base / base.manifest.folder / name
            minimum_cosine = _write(base, encoder, of, precomputed, folder)
        finally:
            base.close()
        sync_folder(folder)
        sync_folder(folder.parent)
        vectors = Vectors(
            folder=name,
            of=of,
            kind=kind_for(base.manifest.pairs),
            pairs=base.manifest.pairs,
            dimension=encoder.dimension,
            encoder=str(encoder_folder.resolve()),
            encoder_digest=encoder.digest,
            minimum_cosine=minimum_cosine,
            sha256=checksums(folder),
        )
        manifest = base.built.model_copy(update={"vectors": vectors})
        write_manifest(knowledge_base, manifest)
        # Services that still search the old vectors keep the deleted files open.
        for other in folder.parent.glob("vectors-*"):
            if other != folder:
                shutil.rmtree(other)
        return manifest


def _write(base: KnowledgeBase, encoder: Encoder, of: Of, precomputed: Precomputed | None, folder: Path) -> float:
    """Write the vectors into a folder and return their minimum cosine."""
    documents = base.index.in_order()
    writer = DenseWriter(folder, len(documents), encoder.dimension)
    with progress_bar(len(documents), "encoding", "pairs") as progress:
        progress.update(writer.done)
        while writer.done < len(documents):
            pairs = [base.index.pair(document) for document in documents[writer.done : writer.done + _AT_ONCE]]
            if precomputed:
                vectors = precomputed.of(pairs, writer.done, len(documents))
            elif of == "texts":
                vectors = encoder.texts([pair.caption for pair in pairs], "document")
            else:
                vectors = _of_images(base, encoder, pairs)
            writer.add(vectors)
            progress.update(len(pairs))
    sample = np.random.default_rng(0).choice(len(documents), min(_COMPARED, len(documents)), replace=False)
    captions = [base.index.pair(documents[row]).caption for row in sample]
    minimum_cosine = _minimum_cosine(captions, encoder.texts(captions, "query") @ writer.read(sample).T)
    writer.finish(kind_for(len(documents)), (base.index.pair(document).id for document in documents))
    return minimum_cosine


def _of_images(base: KnowledgeBase, encoder: Encoder, pairs: Sequence[StoredPair]) -> NDArray[np.float32]:
    try:
        return encoder.images([base.images.read(pair) for pair in pairs])
    except ReimagenError:
        raise
    except Exception as error:  # Pillow's decoders raise various errors.
        raise ReimagenError(f"an image from {pairs[0].id!r} to {pairs[-1].id!r} cannot be read: {error}") from error


def _minimum_cosine(captions: Sequence[str], cosines: NDArray[np.float32]) -> float:
    """Return the cosine that one in a thousand combinations of a caption and another pair's vector exceeds.

    Args:
        captions: The captions of some pairs.
        cosines: The cosines of each caption with the vector of each of these pairs, (captions, pairs).
    """
    texts = np.array(captions)
    unrelated = cosines[texts[:, None] != texts]
    return float(np.quantile(unrelated, 1 - _UNRELATED_ABOVE)) if unrelated.size else -1.0
