"""The provenance in an image's file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reimagen_common.errors import InvalidArgument
from reimagen_generator.generation import provenance
from reimagen_generator.generation.provenance import Provenance, Source
from reimagen_generator.generation.request import OutputFormat

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
ORIGIN = Provenance(
    prompt='a "red" panda — 小熊猫 \U0001f43c\nin the snow',
    seed=2**32 - 1,
    size=16,
    cascade="tiny",
    neighbors=(Source("noto/red-panda", "a red panda", "noto@1.2/red-panda", "Apache-2.0", 2.5),),
    revision="g1",
    guidance={"strategy": "interleaved", "text_weight": 2.5},
    settings={
        "negative_prompt": "a “blurry” 小熊猫",
        "steps": 30,
        "sampler": "dpm-solver++",
        "stages": [{"size": 16, "guidance": {"text_weight": 3.0}}],
    },
    references=True,
)
FORMATS: tuple[OutputFormat, ...] = ("png", "jpeg", "webp")


@pytest.mark.parametrize("output_format", FORMATS)
def test_an_image_file_contains_the_whole_provenance(output_format: OutputFormat, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(provenance.encode(PIXELS, output_format, ORIGIN))
    assert provenance.read(path) == ORIGIN
    with Image.open(path) as image:
        assert image.format == output_format.upper()
        assert image.size == (16, 16)


def test_png_keeps_every_pixel(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(provenance.encode(PIXELS, "png", ORIGIN))
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), PIXELS)


@settings(deadline=None)
@given(prompt=st.text(max_size=1000), caption=st.text(max_size=200), output_format=st.sampled_from(FORMATS))
def test_any_text_survives(
    tmp_path_factory: pytest.TempPathFactory, prompt: str, caption: str, output_format: OutputFormat
) -> None:
    path = tmp_path_factory.mktemp("texts") / "image"
    origin = Provenance(prompt, 1, 16, "tiny", (Source("id", caption, "", ""),))
    path.write_bytes(provenance.encode(PIXELS, output_format, origin))
    assert provenance.read(path) == origin


def test_a_jpeg_with_long_captions_still_names_every_neighbor(tmp_path: Path) -> None:
    neighbors = tuple(
        Source(f"pair-{index}", "熊" * 5_000, "https://example.org/" + "x" * 2_000, "MIT") for index in range(16)
    )
    path = tmp_path / "image.jpg"
    path.write_bytes(provenance.encode(PIXELS, "jpeg", Provenance("猫" * 1_000, 1, 16, "tiny", neighbors)))
    read = provenance.read(path)
    assert read.prompt == "猫" * 1_000
    assert [(neighbor.id, neighbor.license) for neighbor in read.neighbors] == [
        (f"pair-{index}", "MIT") for index in range(16)
    ]


def test_images_without_provenance_are_reported(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "webp"):
        path = tmp_path / f"other.{suffix}"
        Image.fromarray(PIXELS).save(path)
        with pytest.raises(InvalidArgument, match="has no provenance"):
            provenance.read(path)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        provenance.read(tmp_path / "text.png")


def test_inspect_prints_the_provenance(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(provenance.encode(PIXELS, "png", ORIGIN))
    command: list[str | Path] = [Path(sys.executable).with_name("reimagen-generator"), "inspect"]
    shown = subprocess.run([*command, path], capture_output=True, text=True, check=True)
    assert Provenance.from_json(shown.stdout) == ORIGIN
    refused = subprocess.run([*command, tmp_path / "none.png"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "cannot be read" in refused.stderr
