"""Loading of T5's weights from `config.json` and safetensors, of the encoder or of the whole model."""

from pathlib import Path
from typing import Any

from flax import nnx
from pydantic import ValidationError

from reimagen_common.errors import first_fault
from reimagen_generator.text.stored_network import fill
from reimagen_generator.text.t5 import T5, T5Config
from reimagen_generator.weights.importers.names import LINEAR, VECTOR, Source
from reimagen_generator.weights.locate import find_checkpoint
from reimagen_generator.weights.shards import StoredTensors

# The token embedding has two names, and may be stored under both.
_SHARED, _EMBED_TOKENS = "shared.weight", "encoder.embed_tokens.weight"
_DECODER = ("decoder.", "lm_head.")
_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}
_FEED_FORWARD = {"gate": "wi_0", "linear": "wi_1", "out": "wo"}


def load_config(folder: Path) -> T5Config:
    """Return the configuration in a model's `config.json`.

    Raises:
        ValueError: The file is missing or not that of a T5 v1.1.
    """
    path = folder / "config.json"
    try:
        return T5Config.model_validate_json(path.read_text())
    except OSError as error:
        raise ValueError(f"text_encoder: cannot read {path}: {error}") from error
    except ValidationError as error:
        raise ValueError(f"text_encoder: {path} is not the configuration of a T5 v1.1: {first_fault(error)}") from error


def load_t5(folder: Path, dtype: Any) -> T5:
    """Return an encoder with stored weights, after a check of every name and shape.

    One tensor at a time is read, so that memory holds only the result and the largest tensor.

    Args:
        folder: Folder of `config.json`, and of `model.safetensors` or shards with an index. A whole model's decoder is
            skipped.
        dtype: Type of the weights and products, float32 or bfloat16.

    Raises:
        ValueError: A file is missing or damaged, or a tensor is missing, unknown or of another shape, with its name.
    """
    config = load_config(folder)
    network: T5 = nnx.eval_shape(lambda: T5(config, dtype, nnx.Rngs(0)))
    with StoredTensors(find_checkpoint(folder, "model")) as stored:
        shared = _SHARED if _SHARED in stored.shapes else _EMBED_TOKENS
        unused = {name for name in stored.shapes if name.startswith(_DECODER)}
        unused |= stored.shapes.keys() & {_SHARED, _EMBED_TOKENS} - {shared}
        fill(network, stored, _sources(config, shared), unused)
    return network


def _sources(config: T5Config, shared: str) -> dict[str, Source]:
    first = "encoder.block.0.layer.0.SelfAttention"
    sources = {
        "embedding.embedding": Source((shared,), VECTOR),
        "position.embedding": Source((f"{first}.relative_attention_bias.weight",), VECTOR),
        "norm.scale": Source(("encoder.final_layer_norm.weight",), VECTOR),
    }
    for index in range(config.num_layers):
        ours, theirs = f"blocks.{index}", f"encoder.block.{index}.layer"
        sources[f"{ours}.attention.norm.scale"] = Source((f"{theirs}.0.layer_norm.weight",), VECTOR)
        sources[f"{ours}.feed_forward.norm.scale"] = Source((f"{theirs}.1.layer_norm.weight",), VECTOR)
        for name, letter in _ATTENTION.items():
            sources[f"{ours}.attention.{name}.kernel"] = Source((f"{theirs}.0.SelfAttention.{letter}.weight",), LINEAR)
        for name, part in _FEED_FORWARD.items():
            kernel = Source((f"{theirs}.1.DenseReluDense.{part}.weight",), LINEAR)
            sources[f"{ours}.feed_forward.{name}.kernel"] = kernel
    return sources
