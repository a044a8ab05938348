"""The checks that every pair passes before it is taken in, by a build or by a live write."""

from dataclasses import replace

from reimagen_common.errors import InvalidArgument
from reimagen_retriever.knowledge_base.image import ImageFacts, image_to_store
from reimagen_retriever.knowledge_base.pair import (
    MAXIMUM_ID_BYTES,
    RejectedError,
    SourcePair,
    checked_caption,
    checked_id,
    checked_note,
)


def checked_pair(entry: SourcePair) -> tuple[SourcePair, ImageFacts]:
    """The pair as it will be stored, and what its image is.

    Raises:
        RejectedError: something about it can't be taken.
    """
    pair = replace(
        entry,
        id=checked_id(entry.id),
        caption=checked_caption(entry.caption),
        source=checked_note("source", entry.source),
        license=checked_note("license", entry.license),
    )
    if pair.unsafe is not None and not 0 <= pair.unsafe <= 1:
        raise RejectedError("bad number", f"unsafe is {pair.unsafe}, not from 0 to 1")
    image, facts = image_to_store(pair.image)
    return replace(pair, image=image), facts


def refuse_bad_id(identifier: str, field: str) -> None:
    """Refuses what no pair can have as its id.

    Raises:
        InvalidArgument: naming the field.
    """
    try:
        size = len(identifier.encode())
    except UnicodeEncodeError:  # Lone surrogates, such as stand for bytes of a command line that are no UTF-8.
        size = 0
    if not 1 <= size <= MAXIMUM_ID_BYTES:
        raise InvalidArgument(f"must be 1 to {MAXIMUM_ID_BYTES} bytes of UTF-8", field=field)
