"""The sharding rule of each parameter of each network."""

import re

import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from reimagen_generator.config.presets import PRESETS
from reimagen_generator.networks.registry import network_shapes
from reimagen_generator.parallel.rules import partition
from reimagen_generator.text.t5 import T5, T5Config

AXES = {"data": 1, "fsdp": 2, "tensor": 2}
COLUMNS, ROWS = ("fsdp", "tensor"), ("tensor", "fsdp")

# The sharding of each layer's kernel, by its position; all others must stay whole.
KERNELS = {
    r"(conditioning\.)?(time|augmentation)\.inner": COLUMNS,
    r"(conditioning\.)?(time|augmentation)\.outer": ROWS,
    r"conditioning\.pool\.(score|query|key|value)": COLUMNS,
    r"conditioning\.pool\.out": ROWS,
    r"conditioning\.text": COLUMNS,
    r"(blocks\.#\.)?(conv_in|modulation)|low_in": COLUMNS,
    r"(blocks\.#\.)?conv_out": ROWS,
    r"(down|up|halve|double|middle_in|middle_out).*residual(\.#)?\.(conv_in|modulation)": COLUMNS,
    r"(down|up|middle_in|middle_out).*residual(\.#)?\.(conv_out|skip)": ROWS,
    r"(down|up)\.#\.resample\.(conv_in|modulation)": COLUMNS,
    r"(down|up)\.#\.resample\.(conv_out|skip)": ROWS,
    r"(halve|double)\.#": ROWS,
    r"(down|up|middle_in).*attention(\.#)?\.(qkv|text_kv|mlp_in)": COLUMNS,
    r"(down|up|middle_in).*attention(\.#)?\.(out|mlp_out)": ROWS,
    r"neighbor_attention\.#\.(query|key|value)": COLUMNS,
    r"neighbor_attention\.#\.(out|fine_out)": ROWS,
    r"placed_in|tail\.(map_in|pixels_in)": COLUMNS,
    r"tail\.block\.(conv_in|modulation)": COLUMNS,
    r"tail\.conv_out|tail\.block\.conv_out": ROWS,
    r"blocks\.#\.attention\.(query|key|value)": COLUMNS,
    r"blocks\.#\.attention\.out": ROWS,
    r"blocks\.#\.feed_forward\.(gate|linear)": COLUMNS,
    r"blocks\.#\.feed_forward\.out": ROWS,
}
WHOLE = r".*norm(_in|_out)?\.(scale|bias)|.*\.norm\.norm\.(scale|bias)|.*\.(log_precision|offset|position)"


def parameters(name: str) -> dict[str, tuple[int, ...]]:
    """Return names and shapes, one for names that differ only in indices."""
    if name == "t5":
        sizes = {"vocab_size": 32, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
        config = T5Config.model_validate({"feed_forward_proj": "gated-gelu", **sizes})
        networks: list[nnx.Module] = [nnx.eval_shape(lambda: T5(config, jnp.float32, nnx.Rngs(0)))]
    else:
        networks = [network_shapes(stage.network) for stage in PRESETS[name].stages]
    flat = [pair for network in networks for pair in nnx.to_flat_state(nnx.state(network, nnx.Param))]
    shapes = {".".join(map(str, path)): value.shape for path, value in flat}
    return {name: shapes[name] for name in {without_indices(name): name for name in shapes}.values()}


def without_indices(name: str) -> str:
    return re.sub(r"\b\d+\b", "#", name)


def expected(name: str, shape: tuple[int, ...]) -> tuple[str | None, ...]:
    layer, own = name.rpartition(".")[::2]
    if name == "embedding.embedding":
        return ROWS
    if name == "position.embedding":
        return (None, "tensor")
    if re.fullmatch(WHOLE, name):
        return (None,) * len(shape)
    (pair,) = {pair for pattern, pair in KERNELS.items() if re.fullmatch(pattern, layer)}
    if own == "bias":
        return ("tensor" if pair == COLUMNS else None,)
    return (None,) * (len(shape) - 2) + pair


@pytest.mark.parametrize("name", ["t5", *PRESETS])
def test_each_parameter_is_sharded_as_intended(name: str) -> None:
    for path, shape in parameters(name).items():
        wanted = zip(expected(without_indices(path), shape), shape, strict=True)
        fits = [axis if axis and size % AXES[axis] == 0 else None for axis, size in wanted]
        assert partition(path, shape, AXES) == PartitionSpec(*fits), path  # type: ignore[no-untyped-call]


def test_a_parameter_without_a_rule_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^up\.0\.convolution\.kernel: no rule"):
        partition("up.0.convolution.kernel", (4, 4), AXES)
    with pytest.raises(ValueError, match=r"^up\.0\.conv_in\.gain: no rule"):
        partition("up.0.conv_in.gain", (4,), AXES)


def test_a_dimension_that_its_axis_does_not_divide_stays_whole() -> None:
    spec = partition("conv_in.kernel", (3, 3, 3, 192), {"data": 1, "fsdp": 4, "tensor": 8})
    assert spec == PartitionSpec(None, None, None, "tensor")  # type: ignore[no-untyped-call]
