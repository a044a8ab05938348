"""Imagen's U-Net compared with diffusers' UNet2DConditionModel with DeepFloyd IF's blocks, through the importer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from flax import nnx

from parity.compare import relative_error
from reimagen_generator.config.networks import ImagenUNetConfig
from reimagen_generator.networks.network import LowResolution, Text
from reimagen_generator.weights.checkpoint import load_network
from reimagen_generator.weights.importers.deepfloyd import import_deepfloyd

ROWS, SIDE, LENGTH = 2, 8, 7
TIMESTEPS = (999, 37)
NOISE_LEVELS = (250, 3)
LENGTHS = (5, 3)

STAGE_I: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 6,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "attention_head_dim": 16,
    "cross_attention_dim": 64,
    "encoder_hid_dim": 48,
    "encoder_hid_dim_type": "text_proj",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "cross_attention_norm": "group_norm",
    "resnet_time_scale_shift": "scale_shift",
    "act_fn": "gelu",
}
STAGE_II: dict[str, Any] = STAGE_I | {
    "in_channels": 6,
    "layers_per_block": (1, 2),
    "class_embed_type": "timestep",
    "time_embedding_dim": 96,
    "time_embedding_act_fn": "gelu",
    "resnet_skip_time_act": True,
    "resnet_out_scale_factor": 1 / 0.7071,
    "mid_block_scale_factor": 1 / 0.7071,
}
TEXT_ALONE: dict[str, Any] = STAGE_II | {
    "only_cross_attention": True,
    "act_fn": "silu",
    "time_embedding_act_fn": "silu",
    "mid_block_scale_factor": 1.0,
}


@dataclass(frozen=True)
class Inputs:
    """The inputs of both networks, in diffusers' format except for the order of the axes."""

    x: np.ndarray[Any, Any]
    low_resolution: np.ndarray[Any, Any]
    tokens: np.ndarray[Any, Any]


def inputs(text_channels: int, length: int, side: int, rows: int) -> Inputs:
    random = np.random.default_rng(0)
    x, low_resolution = (random.standard_normal((rows, side, side, 3), np.float32) for _ in range(2))
    return Inputs(x, low_resolution, random.standard_normal((rows, length, text_channels), np.float32))


def random_model(config: dict[str, Any]) -> UNet2DConditionModel:
    """Return diffusers' network with random weights, also where it initializes ones or zeros."""
    torch.manual_seed(0)
    model = UNet2DConditionModel(**config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def theirs(model: UNet2DConditionModel, given: Inputs, row: slice, length: int) -> np.ndarray[Any, Any]:
    """Return diffusers' output for some rows, each of which has `length` tokens."""
    second = model.config["in_channels"] == 6
    x = np.concatenate([given.x, given.low_resolution], axis=-1) if second else given.x
    with torch.no_grad():
        output = model(
            torch.from_numpy(x[row].transpose(0, 3, 1, 2).copy()),
            torch.tensor(TIMESTEPS[row]),
            torch.from_numpy(given.tokens[row, :length]),
            class_labels=torch.tensor(NOISE_LEVELS[row]) if second else None,
        ).sample
    return np.asarray(output.numpy().transpose(0, 2, 3, 1))


def ours(path: Path, config: ImagenUNetConfig, given: Inputs) -> np.ndarray[Any, Any]:
    """Return our output for all rows, whose texts are padded to one length."""
    graph, state = nnx.split(load_network(path, config))
    rows, length = given.tokens.shape[:2]
    text = Text(jnp.asarray(given.tokens), jnp.arange(length) < jnp.asarray(LENGTHS[:rows])[:, None])
    low = None
    if config.low_resolution:
        low = LowResolution(jnp.asarray(given.low_resolution), jnp.asarray(NOISE_LEVELS[:rows]) / 1000)

    @jax.jit
    def evaluate(state: nnx.State[Any, Any], x: jax.Array, text: Text, low: LowResolution | None) -> jax.Array:
        time = jnp.asarray(TIMESTEPS[:rows]) / 1000
        output: jax.Array = nnx.merge(graph, state)(x, time, text, None, low)
        return output

    return np.asarray(evaluate(state, jnp.asarray(given.x), text, low))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, UNet2DConditionModel], Any]:
    """Return a cascade imported from the files of diffusers' save_pretrained, both single and sharded."""
    folder = tmp_path_factory.mktemp("deepfloyd")
    models = {"I": random_model(STAGE_I), "II": random_model(STAGE_II)}
    models["I"].save_pretrained(folder / "I" / "unet")
    models["II"].save_pretrained(folder / "II" / "unet", max_shard_size="1MB")
    assert (folder / "II" / "unet" / "diffusion_pytorch_model.safetensors.index.json").is_file()
    config = import_deepfloyd(folder / "I", folder / "out", stage_ii=folder / "II", dtype="float32")
    return folder / "out", models, config


@pytest.mark.parametrize("stage", ["I", "II"])
def test_the_output_equals_diffusers(imported: tuple[Path, dict[str, UNet2DConditionModel], Any], stage: str) -> None:
    """Stage I, and stage II with its augmentation level, as published: padding counts as text."""
    out, models, config = imported
    size, network = (64, config.stages[0].network) if stage == "I" else (256, config.stages[1].network)
    given = inputs(48, LENGTH, SIDE, ROWS)
    result = ours(out / f"stage-{size}.safetensors", network, given)
    assert result.shape == (ROWS, SIDE, SIDE, 6)
    assert relative_error(result, theirs(models[stage], given, slice(None), LENGTH)) <= 1e-4


def test_a_masked_token_has_no_effect(tmp_path: Path) -> None:
    """Attention only to the text; each row is compared with diffusers' output for the unmasked tokens only."""
    models = {"I": random_model(STAGE_I), "II": random_model(TEXT_ALONE)}
    for stage, model in models.items():
        model.save_pretrained(tmp_path / stage / "unet")
    config = import_deepfloyd(tmp_path / "I", tmp_path / "out", stage_ii=tmp_path / "II", dtype="float32")
    network = config.stages[1].network
    assert isinstance(network, ImagenUNetConfig)
    given = inputs(48, LENGTH, SIDE, ROWS)
    masked = network.model_copy(update={"sees_padding": False})
    result = ours(tmp_path / "out" / "stage-256.safetensors", masked, given)
    for row, length in enumerate(LENGTHS):
        reference = theirs(models["II"], given, slice(row, row + 1), length)
        assert relative_error(result[row : row + 1], reference) <= 1e-4
