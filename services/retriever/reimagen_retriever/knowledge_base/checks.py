"""Checks of every pair before a build or a live write stores it."""

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
    """Return the pair as it will be stored, with the facts of its image.

    Raises:
        RejectedError: A field or the image is not valid.
    """
    pair = replace(
        entry,
        id=checked_id(entry.id),
        caption=checked_caption(entry.caption),
        source=checked_note("source", entry.source),
        license=checked_note("license", entry.license),
    )
    if pair.unsafe is not None and not 0 <= pair.unsafe <= 1:
        raise RejectedError("bad number", f"unsafe is {pair.unsafe}, must be 0 to 1")
    image, facts = image_to_store(pair.image)
    return replace(pair, image=image), facts


def refuse_bad_id(identifier: str, field: str) -> None:
    """Raise an error if no pair can have this id.

    Raises:
        InvalidArgument: The id is empty, too long or not UTF-8; the error names the field.
    """
    try:
        size = len(identifier.encode())
    except UnicodeEncodeError:  # Lone surrogates, which Python uses for non-UTF-8 bytes of a command line.
        size = 0
    if not 1 <= size <= MAXIMUM_ID_BYTES:
        raise InvalidArgument(f"must be 1 to {MAXIMUM_ID_BYTES} bytes of UTF-8", field=field)
