import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reimagen_common.images import MAXIMUM_IMAGE_BYTES, read_image
from reimagen_retriever.knowledge_base.fingerprint import fingerprint
from reimagen_retriever.knowledge_base.image import ImageFacts, image_to_store
from reimagen_retriever.knowledge_base.pair import RejectedError


def facts_of(data: bytes) -> ImageFacts:
    """Return the facts of a file that is stored unchanged."""
    stored, facts = image_to_store(data)
    assert stored == data
    return facts


@pytest.mark.parametrize(("kind", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")])
def test_an_image_has_type_size_and_fingerprint(make_image: Callable[..., bytes], kind: str, media_type: str) -> None:
    assert facts_of(make_image(size=(8, 6), kind=kind)) == ImageFacts(media_type, 8, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"])
def test_other_types_are_stored_as_png(kind: str) -> None:
    data = noisy(kind)
    stored, facts = image_to_store(data)
    assert facts == ImageFacts("image/png", 64, 64)
    assert read_image(stored).format == "PNG"
    assert read_image(stored).rgb.tobytes() == read_image(data).rgb.tobytes()
    assert facts.fingerprint == fingerprint(stored).tobytes()


def test_images_too_large_as_png_are_stored_as_jpeg() -> None:
    file = io.BytesIO()
    size = (1_600, 1_000)
    Image.merge("RGB", [Image.effect_noise(size, 80) for _ in range(3)]).save(file, "AVIF", quality=60, speed=10)
    stored, facts = image_to_store(file.getvalue())
    assert facts == ImageFacts("image/jpeg", *size)
    assert len(stored) <= MAXIMUM_IMAGE_BYTES
    assert read_image(stored).format == "JPEG"


def test_unsupported_types_are_named() -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    with pytest.raises(RejectedError, match="unsupported image type: HEIC; convert it"):
        image_to_store(heic)


def noisy(kind: str) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9])
def test_a_truncated_image_is_broken(kind: str, kept: float) -> None:
    data = noisy(kind)
    with pytest.raises(RejectedError, match="broken image"):
        facts_of(data[: int(len(data) * kept)])


@settings(deadline=None)
@given(st.binary(max_size=2_000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(RejectedError):
        facts_of(data)


@settings(deadline=None)
@given(st.integers(min_value=0), st.binary(min_size=1, max_size=8))
def test_a_damaged_png_is_accepted_or_refused(place: int, damage: bytes) -> None:
    data = bytearray(noisy("PNG"))
    place %= len(data)
    data[place : place + len(damage)] = damage
    try:
        facts = facts_of(bytes(data))
    except RejectedError:
        return
    assert facts.media_type == "image/png"


def bomb(side: int) -> bytes:
    """Return a PNG whose header declares a side, without the data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8_001, 10_000, 100_000])
def test_a_decompression_bomb_is_refused_before_decoding(side: int) -> None:
    with pytest.raises(RejectedError, match="too many pixels"):
        facts_of(bomb(side))


def test_a_large_file_is_refused() -> None:
    with pytest.raises(RejectedError, match="image file too large"):
        facts_of(b"x" * (MAXIMUM_IMAGE_BYTES + 1))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_decompression_bomb_in_the_metadata_of_a_png_is_refused(kind: bytes) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    inflating = zlib.compress(bytes(200_000_000), 9)
    between = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[kind]
    png = noisy("PNG")
    start = len(b"\x89PNG\r\n\x1a\n") + 25
    data = png[:start] + chunk(kind, between + inflating) + png[start:]
    tracemalloc.start()
    try:
        with suppress(RejectedError):
            assert facts_of(data).width == 64
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_the_digest_is_that_of_the_file(make_image: Callable[..., bytes]) -> None:
    for data in (noisy("PNG"), noisy("JPEG"), noisy("WEBP"), make_image(size=(700, 300), kind="JPEG")):
        assert facts_of(data).fingerprint == fingerprint(data).tobytes()
