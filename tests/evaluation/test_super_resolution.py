"""The measure of super-resolution, on stages with known outputs."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from PIL import Image
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from reimagen_evaluation.cli import app
from reimagen_evaluation.super_resolution import super_resolution
from reimagen_generator.config.cascade import CascadeConfig, Prediction, StageConfig
from reimagen_generator.config.networks import FoldedResNetConfig
from reimagen_generator.config.presets import CLIPPING, TINY
from reimagen_generator.networks.registry import build_network
from reimagen_generator.weights import checkpoint

COUNT, FILE = 3, "stage-32.safetensors"
LARGER = StageConfig(
    size=32,
    network=FoldedResNetConfig(width=4, blocks=1, factor=2),
    prediction=Prediction.X0,
    steps=1,
    thresholding=CLIPPING,
)
CASCADE = CascadeConfig(name="two", stages=(TINY.stages[0], LARGER))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write shards of squares at different positions."""
    folder = tmp_path_factory.mktemp("images")
    with tarfile.open(folder / "00000.tar", "w") as shard:
        for number in range(COUNT):
            pixels = np.full((32, 32, 3), 30, np.uint8)
            pixels[5 + number : 20, 7 : 18 + number] = 220
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            for suffix, content in {"png": buffer.getvalue(), "txt": b"a square"}.items():
                member = tarfile.TarInfo(f"{number:04d}.{suffix}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return folder


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a stage that draws the upsampled low-resolution image."""
    folder = tmp_path_factory.mktemp("untrained")
    checkpoint.save_config(CASCADE, folder)
    checkpoint.save_network(build_network(LARGER.network, nnx.Rngs(0)), folder / FILE)
    return folder


@pytest.fixture(scope="module")
def lighter(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a stage that draws it lighter by 16 of 255: the network adds a tenth of its last layer's output."""
    folder = tmp_path_factory.mktemp("lighter")
    checkpoint.save_config(CASCADE, folder)
    tensors = load_file(untrained / FILE)
    tensors["conv_out.bias"] = np.full_like(tensors["conv_out.bias"], 10 * 16 / 127.5)
    save_file(tensors, folder / FILE)
    return folder


def test_the_rows_are_true_images_bicubic_and_each_stage(untrained: Path, lighter: Path, images: Path) -> None:
    true, bicubic, same, light = super_resolution([untrained, lighter], 1, images, COUNT)
    assert [row.name for row in (true, bicubic)] == ["true", "bicubic"]
    assert true.psnr == np.inf
    assert true.edge_width < bicubic.edge_width
    assert (bicubic.gain, bicubic.worst_gain) == (0.0, 0.0)
    assert same.name == str(untrained)
    # A few rounding errors of the sampler become one level of 255.
    np.testing.assert_allclose([same.gain, same.worst_gain], 0.0, atol=0.01)
    np.testing.assert_allclose([same.grain, same.edge_width], [bicubic.grain, bicubic.edge_width], rtol=0.01)
    # Where nothing is clipped the lighter images' mean squared error is larger by 16².
    expected = 10 * np.log10(255**2 / (255**2 / 10 ** (bicubic.psnr / 10) + 16**2))
    assert light.psnr == pytest.approx(expected, abs=0.1)
    assert light.worst_gain <= light.gain < -1


def test_the_command_prints_a_row_for_each(untrained: Path, images: Path) -> None:
    arguments = ["super-resolution", str(untrained), "--images", str(images), "--count", str(COUNT)]
    result = CliRunner().invoke(app, arguments)
    rows = [line.split("|")[1].strip() for line in result.stdout.splitlines()]
    assert rows == [f"{COUNT} images", "---", "true", "bicubic", str(untrained)]
    assert "+0.00 | +0.00" in result.stdout


def test_unmeasurable_input_is_refused_by_name(untrained: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^stage: two has super-resolution stages 1 to 1"):
        next(super_resolution([untrained], 2, images, COUNT))
    with pytest.raises(ValueError, match=r"^count: .* has only 3 images, got 4"):
        next(super_resolution([untrained], 1, images, COUNT + 1))
    larger = LARGER.model_copy(update={"size": 48})
    checkpoint.save_config(CASCADE.model_copy(update={"stages": (TINY.stages[0], larger)}), tmp_path)
    with pytest.raises(ValueError, match=r"^weights: stages must upsample between the same sizes, got 16 to 32 and 16"):
        next(super_resolution([untrained, tmp_path], 1, images, COUNT))
