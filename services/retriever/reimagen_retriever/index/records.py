"""The bytes of a pair in the index: a record, and texts that many pairs share.

A record has what differs from pair to pair except the id, which has a field of its own. Licenses and the origins of
sources are in Lucene's dictionaries, which store each text once. Whole sources there would take less space still, but
to read one, Lucene decompresses 64.
"""

import struct
from typing import get_args

from reimagen_retriever.knowledge_base.pair import MediaType, StoredPair, shard_name

_MEDIA_TYPES: tuple[MediaType, ...] = get_args(MediaType)
_UNSAFE = 0x80
"""Flag beside the media type: the record has the probability that the image is unsafe."""
_HEAD = struct.Struct("<IQIIIBBH")
"""Shard, offset, length, width, height, media type with flag, and the lengths of digest and caption."""
_PROBABILITY = struct.Struct("<d")
_REST = struct.Struct("<H")
"""Length of the rest of the source, which comes first because filters read it."""
_FIELDS = struct.Struct("<HHH")
"""Lengths of what has fields of its own: id, origin and license."""


def origin_and_rest(source: str) -> tuple[str, str]:
    """Split an address after its host: "https://example.org/" and "a.jpg". Other sources have an empty origin."""
    scheme = source.find("://")
    end = source.find("/", scheme + 3) + 1 if scheme >= 0 else 0
    return source[:end], source[end:]


def record(pair: StoredPair) -> bytes:
    """Return the record of a pair, which ends with the id of the original, if any."""
    rest = origin_and_rest(pair.source)[1].encode()
    digest, caption = bytes.fromhex(pair.sha256), pair.caption.encode()
    flags, unsafe = _MEDIA_TYPES.index(pair.media_type), b""
    if pair.unsafe is not None:
        flags, unsafe = flags | _UNSAFE, _PROBABILITY.pack(pair.unsafe)
    lengths = len(digest), len(caption)
    head = _HEAD.pack(pair.shard_number, pair.offset, pair.length, pair.width, pair.height, flags, *lengths)
    return b"".join((_REST.pack(len(rest)), rest, head, digest, caption, unsafe, pair.duplicate_of.encode()))


def pair_of(stored: bytes) -> StoredPair:
    """Return the pair of what Java returns: the lengths of id, origin and license, these texts, and the record."""
    identifier, origin, license_ = _FIELDS.unpack_from(stored)
    id_end = _FIELDS.size + identifier
    origin_end = id_end + origin
    license_end = origin_end + license_
    rest_start = license_end + _REST.size
    (rest,) = _REST.unpack_from(stored, license_end)
    rest_end = rest_start + rest
    shard, offset, length, width, height, flags, digest, caption = _HEAD.unpack_from(stored, rest_end)
    head_end = rest_end + _HEAD.size
    digest_end = head_end + digest
    caption_end = original = digest_end + caption
    unsafe = None
    if flags & _UNSAFE:
        (unsafe,) = _PROBABILITY.unpack_from(stored, caption_end)
        original += _PROBABILITY.size
    return StoredPair(
        id=stored[_FIELDS.size : id_end].decode(),
        caption=stored[digest_end:caption_end].decode(),
        shard=shard_name(shard),
        offset=offset,
        length=length,
        sha256=stored[head_end:digest_end].hex(),
        media_type=_MEDIA_TYPES[flags & ~_UNSAFE],
        width=width,
        height=height,
        source=(stored[id_end:origin_end] + stored[rest_start:rest_end]).decode(),
        license=stored[origin_end:license_end].decode(),
        unsafe=unsafe,
        duplicate_of=stored[original:].decode(),
    )
