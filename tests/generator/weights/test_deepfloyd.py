"""Import of DeepFloyd IF's folders: refusals, tensors and memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file
from typer.testing import CliRunner

from reimagen_generator.cli import app
from reimagen_generator.config.networks import ImagenUNetConfig
from reimagen_generator.config.presets_deepfloyd import DEEPFLOYD_IF_XL, IF_II_L
from reimagen_generator.diffusion.resize import to_float
from reimagen_generator.diffusion.stage import Stage
from reimagen_generator.networks.network import Text
from reimagen_generator.networks.registry import network_shapes
from reimagen_generator.training.loss import Batch, Draws, loss_by_row
from reimagen_generator.weights.checkpoint import load_config, load_network, named
from reimagen_generator.weights.importers.deepfloyd import deepfloyd_sources, import_deepfloyd
from reimagen_generator.weights.importers.deepfloyd_config import read_config
from reimagen_generator.weights.shards import StoredTensors

STEM = "diffusion_pytorch_model"

# As published, without the fields of its origin.
IF_I_XL: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.19.0.dev0",
    "act_fn": "gelu",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 64,
    "attention_head_dim": 64,
    "block_out_channels": [704, 1408, 2112, 2816],
    "center_input_sample": False,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_dim": 2816,
    "cross_attention_norm": "group_norm",
    "down_block_types": ["ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3],
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj",
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 3,
    "layers_per_block": 3,
    "mid_block_only_cross_attention": None,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "only_cross_attention": False,
    "out_channels": 6,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "scale_shift",
    "sample_size": 64,
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "up_block_types": [*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"],
}
IF_II_L_FIELDS: dict[str, Any] = IF_I_XL | {
    "block_out_channels": [160, 320, 640, 960, 1280],
    "class_embed_type": "timestep",
    "cross_attention_dim": 1280,
    "down_block_types": [*["ResnetDownsampleBlock2D"] * 3, *["SimpleCrossAttnDownBlock2D"] * 2],
    "in_channels": 6,
    "layers_per_block": [2, 2, 3, 5, 5],
    "mid_block_scale_factor": 1.4142271248762552,
    "resnet_out_scale_factor": 1.4142271248762552,
    "resnet_skip_time_act": True,
    "sample_size": 256,
    "time_embedding_act_fn": "gelu",
    "time_embedding_dim": 1280,
    "up_block_types": [*["SimpleCrossAttnUpBlock2D"] * 2, *["ResnetUpsampleBlock2D"] * 3],
}
SMALL = {
    "addition_embed_type_num_heads": 4,
    "attention_head_dim": 16,
    "block_out_channels": [32, 64],
    "cross_attention_dim": 32,
    "down_block_types": ["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"],
    "encoder_hid_dim": 48,
    "layers_per_block": 1,
    "up_block_types": ["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
}
SMALL_I = IF_I_XL | SMALL
SMALL_II = IF_II_L_FIELDS | SMALL | {"time_embedding_dim": 64}


def shapes_of(config: ImagenUNetConfig) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in named(nnx.state(network_shapes(config), nnx.Param)).items()}


def write_fields(folder: Path, fields: dict[str, Any]) -> Path:
    """Write a folder without weights."""
    (folder / "unet").mkdir(parents=True, exist_ok=True)
    (folder / "unet" / "config.json").write_text(json.dumps(fields))
    return folder


def made_up(folder: Path, fields: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the tensors of such a folder."""
    config = read_config(write_fields(folder, fields) / "unet" / "config.json")
    ours, random = shapes_of(config), np.random.default_rng(0)
    tensors = {
        name: random.standard_normal(shape, np.float32)
        for target, source in deepfloyd_sources(config).items()
        for name, shape in source.shapes(ours[target]).items()
    }
    return tensors | {"add_embedding.pool.k_proj.bias": np.ones(config.text_channels, np.float32)}


def write(folder: Path, tensors: dict[str, np.ndarray[Any, Any]], name: str = f"{STEM}.safetensors") -> Path:
    """Write the tensors to one file."""
    save_file(tensors, folder / "unet" / name)
    return folder


def test_the_published_configurations_are_the_presets(tmp_path: Path) -> None:
    stage_i = read_config(write_fields(tmp_path / "XL", IF_I_XL) / "unet" / "config.json")
    stage_ii = read_config(write_fields(tmp_path / "L", IF_II_L_FIELDS) / "unet" / "config.json")
    assert stage_i == DEEPFLOYD_IF_XL.stages[0].network
    assert stage_ii == DEEPFLOYD_IF_XL.stages[1].network == IF_II_L


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("act_fn", "mish"),
        ("addition_embed_type", None),
        ("attention_head_dim", [64, 64]),
        ("class_embed_type", "timestep"),
        ("cross_attention_norm", "layer_norm"),
        ("down_block_types", ["CrossAttnDownBlock2D", "SimpleCrossAttnDownBlock2D"]),
        ("encoder_hid_dim", None),
        ("layers_per_block", [1, 1, 1]),
        ("norm_num_groups", 16),
        ("out_channels", 4),
        ("resnet_skip_time_act", True),
        ("up_block_types", ["ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"]),
    ],
)
def test_another_kind_of_network_is_refused_by_its_field(tmp_path: Path, field: str, value: object) -> None:
    folder = write_fields(tmp_path, SMALL_I | {field: value})
    named_so = {"layers_per_block": "blocks"}.get(field, field)
    with pytest.raises(ValueError, match=rf"config\.json: .*{named_so}"):
        read_config(folder / "unet" / "config.json")


def test_each_tensor_is_imported(tmp_path: Path) -> None:
    theirs = made_up(tmp_path / "I", SMALL_I)
    write(tmp_path / "I", theirs)
    import_deepfloyd(tmp_path / "I", tmp_path / "out", dtype="float32")
    with StoredTensors(tmp_path / "out" / "stage-64.safetensors") as stored:
        conv = stored.read("down.0.resample.conv_in.kernel")
        skip = stored.read("up.1.blocks.0.residual.skip.kernel")
        qkv, bias = (stored.read(f"down.1.blocks.0.attention.qkv.{name}") for name in ("kernel", "bias"))
        time = stored.read("conditioning.time.inner.kernel")
    x = np.random.default_rng(1).standard_normal((5, 64), np.float32)
    np.testing.assert_array_equal(conv[0, 2], theirs["down_blocks.0.downsamplers.0.conv1.weight"][:, :, 0, 2].T)
    np.testing.assert_array_equal(skip, theirs["up_blocks.1.resnets.0.conv_shortcut.weight"][:, :, 0, 0].T)
    attention = "down_blocks.1.attentions.0"
    for part, name in zip(np.split(x @ qkv + bias, 3, axis=1), ("to_q", "to_k", "to_v"), strict=True):
        expected = x @ theirs[f"{attention}.{name}.weight"].T + theirs[f"{attention}.{name}.bias"]
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-5)
    sines, cosines = np.split(x[:, :32], 2, axis=1)
    expected = np.concatenate([cosines, sines], axis=1) @ theirs["time_embedding.linear_1.weight"].T
    np.testing.assert_allclose(x[:, :32] @ time, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["fp16", "sharded", "fp16 sharded"])
def test_every_layout_gives_the_same_cascade(tmp_path: Path, kind: str) -> None:
    """All numbers are exact in float16, so the conversion loses nothing."""
    theirs = {name: np.round(a * 8) / 8 for name, a in made_up(tmp_path / "one", SMALL_I).items()}
    write(tmp_path / "one", theirs)
    import_deepfloyd(tmp_path / "one", tmp_path / "out-one", dtype="float32")
    folder = write_fields(tmp_path / "other", SMALL_I)
    dtype = np.float16 if "fp16" in kind else np.float32
    stored = {name: a.astype(dtype) for name, a in theirs.items()}
    variant = "fp16." if "fp16" in kind else ""
    if "sharded" in kind:
        parts = [
            {name: stored[name] for name in list(stored)[i::2]} for i in range(2)
        ]  # both have parts of one of our tensors
        weight_map: dict[str, str] = {}
        for index, part in enumerate(parts):
            file = f"{STEM}.{variant}{index}.safetensors"
            write(folder, part, file)
            weight_map |= dict.fromkeys(part, file)
        suffix = f"safetensors.index.{variant}json"
        (folder / "unet" / f"{STEM}.{suffix}").write_text(json.dumps({"weight_map": weight_map}))
    else:
        write(folder, stored, f"{STEM}.{variant}safetensors")
    config = import_deepfloyd(folder, tmp_path / "out-other", dtype="float16", shard_bytes=300_000)
    assert len(list((tmp_path / "out-other").glob("stage-64-*-of-*.safetensors"))) > 1
    assert load_config(tmp_path / "out-other") == config
    one, other = (
        nnx.state(load_network(tmp_path / name / "stage-64.safetensors", config.stages[0].network), nnx.Param)
        for name in ("out-one", "out-other")
    )
    for (_, a), (name, b) in zip(nnx.to_flat_state(one), nnx.to_flat_state(other), strict=True):
        np.testing.assert_array_equal(a[...], b[...], err_msg=str(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mid_block.attentions.0.to_k.bias": None}, r"lacks tensor mid_block\.attentions\.0\.to_k\.bias"),
        ({"add_embedding.pool.k_proj.bias": None}, r"lacks tensor add_embedding\.pool\.k_proj\.bias"),
        ({"controlnet.weight": np.zeros(3, np.float32)}, r"unknown tensor controlnet\.weight"),
        ({"conv_in.weight": np.zeros((32, 4, 3, 3), np.float32)}, r"conv_in\.weight has shape .*4.*, expected .*3, 3"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    tensors = made_up(tmp_path / "I", SMALL_I) | change
    write(tmp_path / "I", {name: value for name, value in tensors.items() if value is not None})
    with pytest.raises(ValueError, match=message):
        import_deepfloyd(tmp_path / "I", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_import_leaves_no_files(tmp_path: Path) -> None:
    tensors = made_up(tmp_path / "I", SMALL_I)
    tensors["conv_out.bias"][0] = 1e6  # more than float16 holds
    write(tmp_path / "I", tensors)
    with pytest.raises(ValueError, match=r"conv_out\.bias has numbers that float16 cannot hold"):
        import_deepfloyd(tmp_path / "I", tmp_path / "out", dtype="float16")
    assert list((tmp_path / "out").iterdir()) == []
    import_deepfloyd(tmp_path / "I", tmp_path / "out", dtype="bfloat16")
    with StoredTensors(tmp_path / "out" / "stage-64.safetensors") as stored:
        assert stored.read("conv_out.bias").dtype == ml_dtypes.bfloat16


def test_swapped_stages_are_refused(tmp_path: Path) -> None:
    for name, fields in (("I", SMALL_I), ("II", SMALL_II)):
        write_fields(tmp_path / name, fields)
    with pytest.raises(ValueError, match="II: must be a network of stage I, is one of stage II"):
        import_deepfloyd(tmp_path / "II", tmp_path / "out")
    with pytest.raises(ValueError, match="I: must be a network of stage II, is one of stage I"):
        import_deepfloyd(tmp_path / "I", tmp_path / "out", stage_ii=tmp_path / "I")


def test_retrieval_starts_as_the_identity(tmp_path: Path) -> None:
    """The last layers of the added attention are zero; the networks' tests check the rest."""
    for name, fields in (("I", SMALL_I), ("II", SMALL_II)):
        write(tmp_path / name, made_up(tmp_path / name, fields))
    config = import_deepfloyd(tmp_path / "I", tmp_path / "out", stage_ii=tmp_path / "II", retrieval=True)
    networks = [stage.network for stage in config.stages]
    assert all(isinstance(network, ImagenUNetConfig) for network in networks)
    assert [network.model_dump()["neighbor_attention"] for network in networks] == [(False, True)] * 2
    with StoredTensors(tmp_path / "out" / "stage-256.safetensors") as stored:
        assert np.abs(stored.read("neighbor_attention.1.key.kernel")).max() > 0
        for name in ("out.kernel", "out.bias", "fine_out.kernel", "fine_out.bias"):
            assert not stored.read(f"neighbor_attention.1.{name}").any()


def test_a_run_starts_with_the_imported_networks_loss_and_output(tmp_path: Path) -> None:
    """Equal with neighbors up to the rounding of two compiled programs, on smaller images than the network's."""
    write(tmp_path / "I", made_up(tmp_path / "I", SMALL_I))
    rows, k, side = 2, 2, 8
    random = np.random.default_rng(0)

    def images(*shape: int) -> jax.Array:
        return jnp.asarray(random.standard_normal((*shape, side, side, 3)), jnp.float32)

    def text(count: int) -> Text:
        return Text(jnp.asarray(random.standard_normal((count, 3, 48)), jnp.float32), jnp.ones((count, 3), bool))

    prompts, neighbor_text, empty = text(rows), text(rows * k), text(rows)
    there = jnp.ones((rows, k), bool)
    seen, near = (
        jnp.asarray(random.integers(0, 256, n), jnp.uint8) for n in ((rows, side, side, 3), (rows, k, side, side, 3))
    )
    batch = Batch(seen, prompts, near, neighbor_text, there, empty)
    level = jnp.asarray([0.2, 0.9])
    draws = Draws(level, images(rows), level, images(rows), jnp.asarray([True, False]), there)
    keys = jax.random.split(jax.random.key(0), rows)
    results = []
    for retrieval in (False, True):
        out = tmp_path / f"out-{retrieval}"
        config = import_deepfloyd(tmp_path / "I", out, retrieval=retrieval).stages[0]
        config = config.model_copy(update={"size": side, "steps": 2})
        assert config.network.retrieval is retrieval
        network = load_network(out / "stage-64.safetensors", config.network)
        loss = nnx.jit(loss_by_row, static_argnums=(1, 2))(network, config, None, batch, draws)
        stage = Stage(config, network, None)
        neighbors = stage.encode_neighbors(to_float(near), neighbor_text, there) if retrieval else None
        conditions = stage.conditions(prompts, neighbors, None, keys, empty)
        results.append((loss, stage.sample_at_once(conditions, config.guidance, keys)))
    (loss, drawn), (loss_with, drawn_with) = results
    assert float(loss.min()) > 0.1
    np.testing.assert_array_max_ulp(loss_with, loss, 2)
    np.testing.assert_allclose(drawn_with, drawn, atol=1e-5)


def test_the_import_commands_work(tmp_path: Path) -> None:
    """An imported cascade can be described; a missing folder is an error of one sentence."""
    for name, fields in (("I", SMALL_I), ("II", SMALL_II)):
        write(tmp_path / name, made_up(tmp_path / name, fields))
    folders = [str(tmp_path / name) for name in ("I", "out")]
    run = CliRunner().invoke(app, ["import-deepfloyd", *folders, "--stage-ii", str(tmp_path / "II"), "--retrieval"])
    assert run.stdout == f"{folders[1]}: I, 64 × 64 and 256 × 256\n"
    described = CliRunner().invoke(app, ["describe", folders[1]]).stdout
    assert described.startswith("I: ")
    assert "neighbor_attention.1" in described
    missing = CliRunner().invoke(app, ["import-deepfloyd", str(tmp_path / "III"), str(tmp_path / "new")])
    assert missing.exit_code == 2
    assert missing.stderr.startswith(f"error: {tmp_path / 'III' / 'unet' / 'config.json'}: cannot be read")


MEASURE = """
import resource, sys
from pathlib import Path
from reimagen_generator.weights.importers import deepfloyd
from reimagen_generator.weights.importers.deepfloyd_config import read_config
from reimagen_generator.networks.registry import network_shapes
folder = Path(sys.argv[1])
network_shapes(read_config(folder / "I" / "unet" / "config.json"))  # the memory of tracing, once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
deepfloyd.import_deepfloyd(folder / "I", folder / "out", dtype="float32")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_importing_needs_little_memory(tmp_path: Path) -> None:
    """Peak memory is below the sum of the largest shard and the result."""
    fields = SMALL_I | {"encoder_hid_dim": 2048, "block_out_channels": [256, 512], "cross_attention_dim": 512}
    config = read_config(write_fields(tmp_path / "I", fields) / "unet" / "config.json")
    ours = shapes_of(config)
    tensors = {
        name: np.zeros(shape, np.float32)
        for target, source in deepfloyd_sources(config).items()
        for name, shape in source.shapes(ours[target]).items()
    }
    write(tmp_path / "I", tensors | {"add_embedding.pool.k_proj.bias": np.zeros(2048, np.float32)})
    shard = (tmp_path / "I" / "unet" / f"{STEM}.safetensors").stat().st_size
    assert shard > 150e6
    run = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 0.5 * shard
