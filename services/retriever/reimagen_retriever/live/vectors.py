"""The vectors of pairs that are to be added to a base that has some, made before the writer's turn comes.

To encode takes longer than to write: callers do it side by side, and those who only remove do not wait for it.
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
    """Refuses to add to a base whose vectors can't be made here; says nothing where it has none.

    Raises:
        InvalidArgument: its encoder is not where it should be, or is another one, or can't encode what is needed.
    """
    if base.dense and base.built.vectors:
        _encoder(base, base.built.vectors)


def with_vectors(base: KnowledgeBase, puts: Sequence[Put], rejections: Rejections) -> list[Put]:
    """The pairs with the vectors that they need: none where the base has none, or has the very same pair.

    Those that the encoder can make nothing of are left out, and added to `rejections`.

    Raises:
        InvalidArgument: see `refuse_without_encoder`.
    """
    made = base.built.vectors
    if not base.dense or not made:
        return list(puts)
    encoder = _encoder(base, made)
    there = base.index.pairs_of([put.pair.id for put in puts], NO_FILTER)
    new = [put for put in puts if put.pair.id not in there or not is_same(there[put.pair.id], put.pair)]
    vectors = dict[str, Vector]()
    for put, values in zip(new, _encoded_each(encoder, made, new, rejections), strict=True):
        if values is not None:
            vectors[put.pair.id] = Vector(values, made.encoder_digest, made.of)
    failed = {put.pair.id for put in new} - vectors.keys()
    return [replace(put, vector=vectors.get(put.pair.id)) for put in puts if put.pair.id not in failed]


def _encoder(base: KnowledgeBase, made: Vectors) -> Encoder:
    assert base.dense
    try:
        encoder = base.dense.encoder()
    except InvalidArgument as error:
        raise InvalidArgument(
            f"this knowledge base has vectors, and each pair that is added needs one: {error.message}", field="pairs"
        ) from error
    if made.of == "images" and not encoder.images_too:
        raise InvalidArgument(
            f"this knowledge base has vectors of images that were given, and {made.encoder} has no vision_model.onnx "
            "to make more: build it anew with the pairs, and give the vectors of all (`vectors --given`)",
            field="pairs",
        )
    return encoder


def _encoded_each(encoder: Encoder, made: Vectors, puts: Sequence[Put], rejections: Rejections) -> list[Encoded | None]:
    """The vectors of pairs, (dimension) each; None for those that are rejected."""
    if not puts:
        return []
    try:
        return list(_encoded(encoder, made, puts))
    except RejectedError as error:
        if len(puts) > 1:
            return [vector for put in puts for vector in _encoded_each(encoder, made, [put], rejections)]
        rejections.add(Rejected(puts[0].pair.location, error.reason, error.detail))
        return [None]


def _encoded(encoder: Encoder, made: Vectors, puts: Sequence[Put]) -> Encoded:
    try:
        if made.of == "texts":
            return encoder.texts([put.pair.caption for put in puts], "document")
        return encoder.images([put.pair.image for put in puts])
    except Exception as error:  # Pillow's decoders and onnxruntime raise whatever they stumble upon.
        raise RejectedError("cannot be encoded", str(error) or type(error).__name__) from error
