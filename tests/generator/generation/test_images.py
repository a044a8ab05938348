"""Decoding of images from callers and knowledge bases."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from reimagen_common.errors import InvalidArgument
from reimagen_generator.diffusion.references import decode


def write(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header declares this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_png_jpeg_and_webp_are_read(file_format: str) -> None:
    pixels = decode(write(Image.new("RGB", (40, 30), (200, 100, 50)), file_format), field="image")
    assert pixels.shape == (30, 40, 3)
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() < 6


def test_transparency_becomes_white() -> None:
    half = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    half.putpixel((1, 0), (10, 20, 30, 255))
    assert decode(write(half), field="image").tolist() == [[[255, 255, 255], [10, 20, 30]]]


def test_a_transparent_palette_becomes_white() -> None:
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 9, 9])
    assert decode(write(palette, transparency=0), field="image").tolist() == [[[255, 255, 255]]]


def test_sixteen_bits_of_gray_keep_their_brightness() -> None:
    gray = Image.fromarray(np.full((2, 2), 0x8000, np.uint16))
    assert decode(write(gray), field="image").tolist() == [[[128] * 3] * 2] * 2


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    pixels = decode(write(Image.new("RGB", (40, 20)), "JPEG", exif=exif), field="image")
    assert pixels.shape == (40, 20, 3)


def test_large_images_are_downsampled_to_the_largest_stage() -> None:
    pixels = decode(write(Image.new("RGB", (4096, 1024), "red")), field="image")
    assert pixels.shape == (256, 1024, 3)


def test_a_large_photograph_is_read() -> None:
    assert decode(write(Image.new("L", (6_000, 4_000)), "JPEG"), field="image").shape == (683, 1_024, 3)


@pytest.mark.parametrize(("width", "height"), [(8_001, 8_000), (1, 64_000_001), (60_000, 60_000)])
def test_decompression_bombs_are_refused_by_their_header(width: int, height: int) -> None:
    with pytest.raises(InvalidArgument, match=r"^references\.0\.image: too many pixels: "):
        decode(png_claiming(width, height), field="references.0.image")


def test_other_formats_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^image: broken image: not PNG, JPEG, WebP, GIF"):
        decode(write(Image.new("RGB", (8, 8)), "PCX"), field="image")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
@settings(deadline=None)
@given(share=st.floats(0, 0.9))
def test_cut_off_files_are_refused(file_format: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    whole = write(Image.fromarray(noise), file_format)
    with pytest.raises(InvalidArgument, match="broken image"):
        decode(whole[: int(len(whole) * share)], field="image")


@settings(deadline=None)
@given(at=st.integers(0, 2_000), byte=st.integers(0, 255), file_format=st.sampled_from(["PNG", "JPEG", "WEBP"]))
def test_damaged_files_are_read_or_refused(at: int, byte: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    damaged = bytearray(write(Image.fromarray(noise), file_format, exif=exif))
    damaged[at % len(damaged)] = byte
    try:
        assert decode(bytes(damaged), field="image").dtype == np.uint8
    except InvalidArgument as error:
        assert error.field == "image"  # noqa: PT017  (either outcome is right)
