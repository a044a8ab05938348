"""The bytes of a pair in the index: a record, and texts that many pairs share.

A record has the fields that differ from pair to pair. Source and license are in Lucene's dictionaries, which store each
text once, and only its difference from the one before it in alphabetical order.
"""

import struct
from typing import get_args

from reimagen_retriever.knowledge_base.pair import MediaType, StoredPair, shard_name

_MEDIA_TYPES: tuple[MediaType, ...] = get_args(MediaType)
_UNSAFE = 0x80
"""Flag beside the media type: the record has the probability that the image is unsafe."""
_HEAD = struct.Struct("<IQIIIBBHH")
"""Shard, offset, length, width, height, media type with flag, and the lengths of digest, id and caption."""
_PROBABILITY = struct.Struct("<d")
_SHARED = struct.Struct("<HH")
"""Lengths of source and license."""


def record(pair: StoredPair) -> bytes:
    """Return the record of a pair: the head, the texts whose lengths it has, and the id of the original, if any."""
    digest, identifier, caption = bytes.fromhex(pair.sha256), pair.id.encode(), pair.caption.encode()
    flags, unsafe = _MEDIA_TYPES.index(pair.media_type), b""
    if pair.unsafe is not None:
        flags, unsafe = flags | _UNSAFE, _PROBABILITY.pack(pair.unsafe)
    lengths = len(digest), len(identifier), len(caption)
    head = _HEAD.pack(pair.shard_number, pair.offset, pair.length, pair.width, pair.height, flags, *lengths)
    return b"".join((head, digest, identifier, caption, unsafe, pair.duplicate_of.encode()))


def pair_of(stored: bytes) -> StoredPair:
    """Return the pair of what Java returns: the lengths of source and license, these texts, and the record."""
    source, license_ = _SHARED.unpack_from(stored)
    source_end = _SHARED.size + source
    license_end = source_end + license_
    shard, offset, length, width, height, flags, digest, identifier, caption = _HEAD.unpack_from(stored, license_end)
    head_end = license_end + _HEAD.size
    digest_end = head_end + digest
    id_end = digest_end + identifier
    caption_end = rest = id_end + caption
    unsafe = None
    if flags & _UNSAFE:
        (unsafe,) = _PROBABILITY.unpack_from(stored, caption_end)
        rest += _PROBABILITY.size
    return StoredPair(
        id=stored[digest_end:id_end].decode(),
        caption=stored[id_end:caption_end].decode(),
        shard=shard_name(shard),
        offset=offset,
        length=length,
        sha256=stored[head_end:digest_end].hex(),
        media_type=_MEDIA_TYPES[flags & ~_UNSAFE],
        width=width,
        height=height,
        source=stored[_SHARED.size : source_end].decode(),
        license=stored[source_end:license_end].decode(),
        unsafe=unsafe,
        duplicate_of=stored[rest:].decode(),
    )
