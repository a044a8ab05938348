"""Vectors of pairs that are added to a base with vectors; computed before the pairs enter the write queue.

Encoding takes longer than writing: threads encode concurrently, and removals do not wait for it.
"""

from collections.abc import Sequence
from dataclasses import replace

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.base import KnowledgeBase
from reimagen_retriever.index.encoder import Encoder
from reimagen_retriever.index.encoder import Vectors as Encoded
from reimagen_retriever.index.filters import NO_FILTER
from reimagen_retriever.knowledge_base.manifest import Vectors
from reimagen_retriever.knowledge_base.pair import Rejected, RejectedError
from reimagen_retriever.live.groups import Rejections
from reimagen_retriever.live.writer import Put, Vector, is_same


def refuse_without_encoder(base: KnowledgeBase) -> None:
    """Raise an error if the base has vectors and its encoder can't be used here.

    Raises:
        InvalidArgument: The encoder is missing, or is another one, or cannot encode images.
    """
    if base.dense and base.built.vectors:
        _encoder(base, base.built.vectors)


def with_vectors(base: KnowledgeBase, puts: Sequence[Put], rejections: Rejections) -> list[Put]:
    """Return the pairs with their vectors, unless the base has no vectors or has the identical pair.

    Pairs that the encoder fails on are left out and added to `rejections`.

    Raises:
        InvalidArgument: The encoder can't be used, see `refuse_without_encoder`.
    """
    precomputed = base.built.vectors
    if not base.dense or not precomputed:
        return list(puts)
    encoder = _encoder(base, precomputed)
    existing = base.index.pairs_of([put.pair.id for put in puts], NO_FILTER)
    new = [put for put in puts if put.pair.id not in existing or not is_same(existing[put.pair.id], put.pair)]
    vectors = dict[str, Vector]()
    for put, values in zip(new, _encode_each(encoder, precomputed, new, rejections), strict=True):
        if values is not None:
            vectors[put.pair.id] = Vector(values, precomputed.encoder_digest, precomputed.of)
    failed = {put.pair.id for put in new} - vectors.keys()
    return [replace(put, vector=vectors.get(put.pair.id)) for put in puts if put.pair.id not in failed]


def _encoder(base: KnowledgeBase, precomputed: Vectors) -> Encoder:
    assert base.dense
    try:
        encoder = base.dense.encoder()
    except InvalidArgument as error:
        raise InvalidArgument(
            f"this knowledge base has vectors, so each added pair needs one: {error.message}", field="pairs"
        ) from error
    if precomputed.of == "images" and not encoder.images_too:
        raise InvalidArgument(
            f"this knowledge base has precomputed vectors of images, and {precomputed.encoder} has no vision_model.onnx"
            " to compute more: build it again with the pairs, and supply all vectors (`vectors --given`)",
            field="pairs",
        )
    return encoder


def _encode_each(
    encoder: Encoder, precomputed: Vectors, puts: Sequence[Put], rejections: Rejections
) -> list[Encoded | None]:
    """Return the vectors of pairs, (dimension) each; None for rejected pairs."""
    if not puts:
        return []
    try:
        return list(_encode(encoder, precomputed, puts))
    except RejectedError as error:
        if len(puts) > 1:
            return [vector for put in puts for vector in _encode_each(encoder, precomputed, [put], rejections)]
        rejections.add(Rejected(puts[0].pair.location, error.reason, error.detail))
        return [None]


def _encode(encoder: Encoder, precomputed: Vectors, puts: Sequence[Put]) -> Encoded:
    try:
        if precomputed.of == "texts":
            return encoder.texts([put.pair.caption for put in puts], "document")
        return encoder.images([put.pair.image for put in puts])
    except Exception as error:  # Pillow's decoders and onnxruntime raise errors of many classes.
        raise RejectedError("cannot be encoded", str(error) or type(error).__name__) from error
