"""The bytes of a pair in the index: a record, and texts that many pairs share.

A record has the fields that differ from pair to pair. Source and license are in dictionaries of Lucene, which store each
text once, and what a source has in common with the one before it in alphabetical order not at all.
"""

import struct
from typing import get_args

from reimagen_retriever.knowledge_base.pair import MediaType, StoredPair

_MEDIA_TYPES: tuple[MediaType, ...] = get_args(MediaType)
_UNSAFE = 0x80
"""Flag in the byte of the media type: the record has the probability that the image is unsafe."""
_HEAD = struct.Struct("<QIIIBBHH")
"""Position, length, width, height, media type with flag, and lengths of digest, id and caption."""
_PROBABILITY = struct.Struct("<d")
_SHARED = struct.Struct("<HH")
"""Lengths of source and license."""


def record(pair: StoredPair) -> bytes:
    """Return the record of a pair: the head, the texts whose lengths it has, and the id of the original, if any."""
    digest, identifier, caption = bytes.fromhex(pair.sha256), pair.id.encode(), pair.caption.encode()
    media_type, unsafe = _MEDIA_TYPES.index(pair.media_type), b""
    if pair.unsafe is not None:
        media_type, unsafe = media_type | _UNSAFE, _PROBABILITY.pack(pair.unsafe)
    lengths = len(digest), len(identifier), len(caption)
    head = _HEAD.pack(pair.position, pair.length, pair.width, pair.height, media_type, *lengths)
    return b"".join((head, digest, identifier, caption, unsafe, pair.duplicate_of.encode()))


def pair_of(stored: bytes) -> StoredPair:
    """Return the pair of what Java returns: the lengths of source and license, these texts, and the record."""
    source, license_ = _SHARED.unpack_from(stored)
    source += _SHARED.size
    license_ += source
    position, length, width, height, media_type, digest, identifier, caption = _HEAD.unpack_from(stored, license_)
    digest += (start := license_ + _HEAD.size)
    identifier += digest
    end = caption + identifier
    unsafe = None
    if media_type & _UNSAFE:
        (unsafe,) = _PROBABILITY.unpack_from(stored, end)
        media_type ^= _UNSAFE
        caption, end = end, end + _PROBABILITY.size
    else:
        caption = end
    return StoredPair(
        id=stored[digest:identifier].decode(),
        caption=stored[identifier:caption].decode(),
        shard=shard_name(position >> 40),
        offset=position & 0xFF_FFFF_FFFF,
        length=length,
        sha256=stored[start:digest].hex(),
        media_type=_MEDIA_TYPES[media_type],
        width=width,
        height=height,
        source=stored[_SHARED.size : source].decode(),
        license=stored[source:license_].decode(),
        unsafe=unsafe,
        duplicate_of=stored[end:].decode(),
    )
