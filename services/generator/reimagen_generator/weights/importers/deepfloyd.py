"""Import of DeepFloyd IF: from the published folders to a cascade's folder.

A published folder contains `unet/config.json` and, next to it, `diffusion_pytorch_model.safetensors`, or its shards and
their index, or the variant `fp16` of either. Tensors are read, converted and written one at a time.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from flax import nnx

from reimagen_generator.config.cascade import CascadeConfig, StageConfig
from reimagen_generator.config.networks import ImagenUNetConfig, LevelAttention
from reimagen_generator.config.presets_deepfloyd import deepfloyd_cascade, with_retrieval
from reimagen_generator.networks.neighbors import NeighborAttentions
from reimagen_generator.networks.registry import network_shapes
from reimagen_generator.weights import checkpoint
from reimagen_generator.weights.importers.deepfloyd_config import read_config
from reimagen_generator.weights.importers.names import (
    CONV,
    CONV_1X1,
    COSINES_FIRST,
    ROW,
    Source,
    check,
    layer,
    norm,
)
from reimagen_generator.weights.locate import find_checkpoint
from reimagen_generator.weights.shards import SHARD_BYTES, StoredTensors, TensorSpec, write_tensors

DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
_STEM = "diffusion_pytorch_model"
_RETRIEVAL = "neighbor_attention."


def import_deepfloyd(
    stage_i: Path,
    out: Path,
    *,
    stage_ii: Path | None = None,
    retrieval: bool = False,
    dtype: str = "float16",
    shard_bytes: int = SHARD_BYTES,
) -> CascadeConfig:
    """Write a cascade's folder.

    Args:
        stage_i: The folder of IF-I-M, L or XL.
        out: The cascade's folder, new or empty.
        stage_ii: The folder of IF-II-M or L; None for a cascade of stage I alone.
        retrieval: Whether to add attention to neighbors, which starts as the identity and needs training.
        dtype: The stored type of the weights, one of `DTYPES`.
        shard_bytes: Maximum size of a file in bytes.

    Raises:
        ValueError: A configuration is not that of DeepFloyd IF; a tensor is missing, unknown or of another shape, with
            its name; a number does not fit `dtype`; or `out` is not empty.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out}: must be a new or an empty folder")
    folders = [stage_i] if stage_ii is None else [stage_i, stage_ii]
    networks = [read_config(folder / "unet" / "config.json") for folder in folders]
    for folder, network, low_resolution in zip(folders, networks, (False, True), strict=False):
        if network.low_resolution is not low_resolution:
            found, needed = ("II", "I") if network.low_resolution else ("I", "II")
            raise ValueError(f"{folder}: must be a network of stage {needed}, is one of stage {found}")
    if retrieval:
        networks = [with_retrieval(network, stage) for network, stage in zip(networks, (64, 256), strict=False)]
    config = deepfloyd_cascade(stage_i.name, *networks)
    with_tensors = [
        (stage, find_checkpoint(folder / "unet", _STEM)) for stage, folder in zip(config.stages, folders, strict=True)
    ]
    for stage, file in with_tensors:  # check all of them before writing any
        with StoredTensors(file) as stored:
            _plan(stage, stored)
    out.mkdir(parents=True, exist_ok=True)
    for stage, file in with_tensors:
        with StoredTensors(file) as stored:
            tensors = _plan(stage, stored)
            metadata = {"imported-from": file.parent.parent.name}
            path = out / checkpoint.stage_file(stage.size)
            write_tensors(path, tensors, DTYPES[dtype], metadata, shard_bytes)
    checkpoint.save_config(config, out)
    return config


def _plan(stage: StageConfig, stored: StoredTensors) -> dict[str, TensorSpec]:
    """Return the tensors to write, in their order in the files, after a check of all names and shapes."""
    assert isinstance(stage.network, ImagenUNetConfig)
    config = stage.network
    parameters = checkpoint.named(nnx.state(network_shapes(config), nnx.Param))
    shapes = {name: tuple(value.shape) for name, value in parameters.items()}
    converted = {name: shape for name, shape in shapes.items() if not name.startswith(_RETRIEVAL)}
    sources = deepfloyd_sources(config)
    # A bias on the keys of one query adds the same number to all logits of a softmax.
    check(str(stored.path), sources, converted, stored.shapes, unused={"add_embedding.pool.k_proj.bias"})
    order = stored.order
    tensors = {
        name: TensorSpec(converted[name], partial(sources[name].make, stored.read))
        for name in sorted(sources, key=lambda name: order[sources[name].names[0]])
    }
    return tensors | _new_retrieval(config)


def _new_retrieval(config: ImagenUNetConfig) -> dict[str, TensorSpec]:
    attention = NeighborAttentions(config.widths, config.neighbor_attention, config.head_channels, nnx.Rngs(0))
    named = checkpoint.named(nnx.state(attention, nnx.Param))

    def numbers(value: nnx.Param[Any]) -> np.ndarray[Any, Any]:
        return np.asarray(value[...])

    return {_RETRIEVAL + name: TensorSpec(value.shape, partial(numbers, value)) for name, value in named.items()}


def deepfloyd_sources(config: ImagenUNetConfig) -> dict[str, Source]:
    """Return the sources of each tensor of the network except for retrieval; the names of sources are diffusers'."""
    sources = (
        layer("conditioning.text", "encoder_hid_proj")
        | norm("conditioning.pool.norm_in", "add_embedding.norm1")
        | {"conditioning.pool.position": Source(("add_embedding.pool.positional_embedding",), ROW)}
        | layer("conditioning.pool.query", "add_embedding.pool.q_proj")
        | layer("conditioning.pool.key", "add_embedding.pool.k_proj")
        | layer("conditioning.pool.value", "add_embedding.pool.v_proj")
        | layer("conditioning.pool.out", "add_embedding.proj")
        | norm("conditioning.pool.norm_out", "add_embedding.norm2")
        | _time("conditioning.time", "time_embedding")
        | (_time("conditioning.augmentation", "class_embedding") if config.low_resolution else {})
        | layer("conv_in", "conv_in", weight=CONV)
        | norm("norm_out", "conv_norm_out")
        | layer("conv_out", "conv_out", weight=CONV)
    )
    del sources["conditioning.pool.key.bias"]
    for ours, theirs, channels in _residual_blocks(config):
        sources |= _residual(ours, theirs, skip=channels[0] != channels[1])
    for ours, theirs, attention in _attentions(config):
        sources |= _attention(ours, theirs, attention)
    return sources


def _residual_blocks(config: ImagenUNetConfig) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Yield our name, diffusers' name, and the input and output channels of each residual block."""
    widths, last = config.widths, len(config.widths) - 1
    skips = [widths[0]]
    for level, width in enumerate(widths):
        for index in range(config.blocks[level]):
            yield f"down.{level}.blocks.{index}.residual", f"down_blocks.{level}.resnets.{index}", (skips[-1], width)
            skips.append(width)
        if level < last:
            yield f"down.{level}.resample", f"down_blocks.{level}.downsamplers.0", (width, width)
            skips.append(width)
    yield "middle_in.residual", "mid_block.resnets.0", (skips[-1], skips[-1])
    yield "middle_out.residual", "mid_block.resnets.1", (skips[-1], skips[-1])
    h = widths[-1]
    for position, level in enumerate(reversed(range(len(widths)))):
        width = widths[level]
        for index in range(config.blocks[level] + 1):
            channels = h + skips.pop(), width
            yield f"up.{position}.blocks.{index}.residual", f"up_blocks.{position}.resnets.{index}", channels
            h = width
        if level:
            yield f"up.{position}.resample", f"up_blocks.{position}.upsamplers.0", (width, width)


def _attentions(config: ImagenUNetConfig) -> Iterator[tuple[str, str, LevelAttention]]:
    yield "middle_in.attention", "mid_block.attentions.0", config.middle_attention
    for level, attention in enumerate(config.attention):
        if attention is LevelAttention.NONE:
            continue
        position = len(config.widths) - 1 - level
        for index in range(config.blocks[level]):
            yield f"down.{level}.blocks.{index}.attention", f"down_blocks.{level}.attentions.{index}", attention
        for index in range(config.blocks[level] + 1):
            yield f"up.{position}.blocks.{index}.attention", f"up_blocks.{position}.attentions.{index}", attention


def _time(ours: str, theirs: str) -> dict[str, Source]:
    inner = layer(f"{ours}.inner", f"{theirs}.linear_1", weight=COSINES_FIRST)
    return inner | layer(f"{ours}.outer", f"{theirs}.linear_2")


def _residual(ours: str, theirs: str, *, skip: bool) -> dict[str, Source]:
    return (
        norm(f"{ours}.norm_in", f"{theirs}.norm1")
        | layer(f"{ours}.conv_in", f"{theirs}.conv1", weight=CONV)
        | layer(f"{ours}.modulation", f"{theirs}.time_emb_proj")
        | norm(f"{ours}.norm_out", f"{theirs}.norm2")
        | layer(f"{ours}.conv_out", f"{theirs}.conv2", weight=CONV)
        | (layer(f"{ours}.skip", f"{theirs}.conv_shortcut", weight=CONV_1X1) if skip else {})
    )


def _attention(ours: str, theirs: str, attention: LevelAttention) -> dict[str, Source]:
    own = ("to_q",) if attention is LevelAttention.TEXT else ("to_q", "to_k", "to_v")
    return (
        norm(f"{ours}.norm", f"{theirs}.group_norm")
        | norm(f"{ours}.text_norm.norm", f"{theirs}.norm_cross")
        | layer(f"{ours}.qkv", *(f"{theirs}.{name}" for name in own))
        | layer(f"{ours}.text_kv", f"{theirs}.add_k_proj", f"{theirs}.add_v_proj")
        | layer(f"{ours}.out", f"{theirs}.to_out.0")
    )
