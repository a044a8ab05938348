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

from reimagen_retriever.knowledge_base.pair import RejectedError
from reimagen_retriever.knowledge_base.picture import MAXIMUM_PICTURE_BYTES, PictureFacts, inspect_picture
from reimagen_retriever.neighbors.fingerprint import fingerprint


@pytest.mark.parametrize(("kind", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")])
def test_what_a_picture_is(picture: Callable[..., bytes], kind: str, media_type: str) -> None:
    assert inspect_picture(picture(size=(8, 6), kind=kind)) == PictureFacts(media_type, 8, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_refused(picture: Callable[..., bytes], kind: str) -> None:
    with pytest.raises(RejectedError, match="neither PNG, JPEG nor WebP"):
        inspect_picture(picture(kind=kind))


def noisy(kind: str) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9])
def test_a_picture_that_is_cut_off_is_broken(kind: str, kept: float) -> None:
    data = noisy(kind)
    with pytest.raises(RejectedError, match="broken picture"):
        inspect_picture(data[: int(len(data) * kept)])


@settings(deadline=None)
@given(st.binary(max_size=2_000))
def test_bytes_that_are_no_picture_are_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(RejectedError):
        inspect_picture(data)


@settings(deadline=None)
@given(st.integers(min_value=0), st.binary(min_size=1, max_size=8))
def test_a_damaged_png_is_taken_as_it_is_or_refused(place: int, damage: bytes) -> None:
    data = bytearray(noisy("PNG"))
    place %= len(data)
    data[place : place + len(damage)] = damage
    try:
        facts = inspect_picture(bytes(data))
    except RejectedError:
        return
    assert facts.media_type == "image/png"


def bomb(side: int) -> bytes:
    """A PNG that says it has so many pixels a side, without their data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8_001, 10_000, 100_000])
def test_a_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    with pytest.raises(RejectedError, match="too many pixels"):
        inspect_picture(bomb(side))


def test_a_large_file_is_refused() -> None:
    with pytest.raises(RejectedError, match="picture file too large"):
        inspect_picture(b"x" * (MAXIMUM_PICTURE_BYTES + 1))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_bomb_in_what_a_png_says_of_itself_is_refused(kind: bytes) -> None:
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
            assert inspect_picture(data).width == 64
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_the_fingerprint_is_that_of_the_file(picture: Callable[..., bytes]) -> None:
    for data in (noisy("PNG"), noisy("JPEG"), noisy("WEBP"), picture(size=(700, 300), kind="JPEG")):
        assert inspect_picture(data).fingerprint == fingerprint(data).tobytes()
