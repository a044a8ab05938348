"""Decoding of images, on files as cameras, scanners and drawing programs write them."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageDraw, PngImagePlugin

from reimagen_common.images import READABLE_FORMATS, ImageError, read_image


def written(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def drawing(size: tuple[int, int] = (600, 400)) -> Image.Image:
    """Return thin lines of few colors, which nearest-neighbor downsampling would break."""
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for place in range(0, size[0], 7):
        pen.line([(place, 0), (size[0] - place, size[1])], fill=(180, place % 200, 40))
    return image.quantize(32).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, int) - np.asarray(other, int)).max())


@pytest.mark.parametrize(
    "same",
    [
        lambda image: image.quantize(32),
        lambda image: image.convert("RGBA"),
        lambda image: image.quantize(32).convert("PA"),
    ],
    ids=["palette", "alpha", "palette-with-alpha"],
)
def test_the_mode_of_a_file_does_not_change_its_image(same: Callable[[Image.Image], Image.Image]) -> None:
    image = drawing()
    other = same(image)
    data = written(other, "TIFF" if other.mode == "PA" else "PNG")
    assert difference(read_image(data, 64).rgb, read_image(written(image), 64).rgb) <= 1


def test_black_and_white_is_reduced_to_gray() -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (400, 200))).convert("1")
    assert abs(np.asarray(read_image(written(stripes), 50).rgb).mean() - 127.5) < 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("side", [90, 640])
def test_sixteen_bits_of_gray_are_scaled_at_any_size(kind: str, side: int) -> None:
    gray = Image.fromarray(np.full((side, side), 0x4080, np.uint16))
    image = read_image(written(gray, kind), 64)
    assert image.rgb.size == (64, 64)
    assert np.unique(np.asarray(image.rgb)).tolist() == [0x40]


def test_a_transparent_gray_of_sixteen_bits_becomes_white() -> None:
    gray = Image.fromarray(np.array([[1_000, 0x8000]], np.uint16))
    assert np.asarray(read_image(written(gray, transparency=1_000)).rgb)[0, :, 0].tolist() == [255, 0x80]


def test_32_bit_pixels_are_refused_by_name() -> None:
    depth = Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
    with pytest.raises(ImageError, match="unsupported image type: 32 bits per pixel"):
        read_image(written(depth, "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_undone(kind: str) -> None:
    lying = Image.new("RGB", (60, 40), "red")
    lying.paste("blue", (0, 0, 30, 40))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright = read_image(written(lying, kind, exif=exif)).rgb
    assert upright.size == (40, 60)
    assert np.asarray(upright)[5, 20].argmax() == 2
    assert np.asarray(upright)[55, 20].argmax() == 0


def test_broken_metadata_does_not_break_the_image() -> None:
    data = written(Image.new("RGB", (10, 8), "red"), "JPEG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff" + bytes(30))
    assert read_image(data).rgb.size == (10, 8)


def test_the_first_of_several_images_in_a_file_is_read() -> None:
    first, second = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (20, 10), "blue")
    for kind in ("MPO", "GIF", "WEBP", "TIFF", "PNG"):
        image = read_image(written(first, kind, save_all=True, append_images=[second.resize((40, 30))]))
        assert (image.width, image.height) == (40, 30)
        assert np.asarray(image.rgb)[15, 20].argmax() == 0
        assert image.format == {"MPO": "JPEG"}.get(kind, kind)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("keyword", ["workflow", "XML:com.adobe.xmp", "Raw profile type exif"])
def test_long_texts_in_a_png_are_ignored(keyword: str, compressed: bool) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text(keyword, "x" * 3_000_000, zip=compressed)
    texts.add_itxt(keyword, "y" * 3_000_000, zip=compressed)
    data = written(Image.new("RGB", (50, 40), "green"), pnginfo=texts, icc_profile=bytes(2_000_000))
    assert read_image(data).rgb.getpixel((0, 0)) == (0, 128, 0)


def test_an_orientation_in_a_text_of_a_png_is_applied() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="8"/>', zip=True)
    assert read_image(written(Image.new("RGB", (50, 40)), pnginfo=texts)).rgb.size == (40, 50)


def claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(8_001, 8_000), (1, 64_000_001), (100_000, 100_000)])
def test_too_many_pixels_are_refused_before_they_are_decoded(width: int, height: int) -> None:
    with pytest.raises(ImageError, match="too many pixels"):
        read_image(claiming(width, height))


@pytest.mark.parametrize("kind", READABLE_FORMATS)
@settings(deadline=None, max_examples=40)
@given(place=st.floats(0, 1, exclude_max=True), damage=st.binary(min_size=1, max_size=8), cut=st.booleans())
def test_damaged_files_are_read_or_refused(kind: str, place: float, damage: bytes, cut: bool) -> None:
    data = written(Image.effect_noise((24, 16), 80).convert("RGB"), kind)
    start = int(place * len(data))
    data = data[:start] + damage + (b"" if cut else data[start + len(damage) :])
    try:
        assert read_image(data, 8).rgb.mode == "RGB"
    except ImageError as error:
        assert error.reason in {"broken image", "too many pixels", "unsupported image type"}  # noqa: PT017
