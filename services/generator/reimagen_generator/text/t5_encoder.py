"""The text encoder T5 v1.1: location and loading of its files."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from reimagen_generator.text.network_encoder import NetworkTextEncoder
from reimagen_generator.text.t5 import T5Config
from reimagen_generator.text.t5_checkpoint import load_config, load_t5
from reimagen_generator.text.t5_tokenizer import T5Tokenizer


@dataclass(frozen=True)
class T5Files:
    """Location and configuration of a model's files."""

    model: Path
    """The folder of `config.json` and the weights."""
    pieces: Path
    """The file `spiece.model`."""
    config: T5Config


def t5_files(folder: Path) -> T5Files:
    """Return the locations of a model's files.

    Args:
        folder: The model's own folder, with its `spiece.model`, or one that contains `text_encoder` and `tokenizer`.

    Raises:
        ValueError: A file is missing, or `config.json` is not that of a T5 v1.1.
    """
    model = folder / "text_encoder" if (folder / "text_encoder").is_dir() else folder
    if not (model / "config.json").is_file():
        raise ValueError(
            f"text_encoder: there is no T5 v1.1 in {folder}: neither config.json nor text_encoder/config.json"
        )
    # If the folder is a link to a pipeline's text_encoder, the tokenizer is next to the link's target.
    candidates = (model, model.parent / "tokenizer", model.resolve().parent / "tokenizer")
    for candidate in candidates:
        if (candidate / "spiece.model").is_file():
            return T5Files(model, candidate / "spiece.model", load_config(model))
    raise ValueError(f"text_encoder: there is no spiece.model in {candidates[0]} or {candidates[1]}")


def load_t5_text_encoder(files: T5Files, length: int) -> NetworkTextEncoder:
    """Return the encoder of a model's files: bfloat16 on an accelerator, float32 on a CPU, where bfloat16 has no gain.

    Args:
        files: The result of `t5_files`.
        length: Number of tokens of a text.

    Raises:
        ValueError: A file is missing or damaged.
    """
    tokenizer = T5Tokenizer(files.pieces, length)
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return NetworkTextEncoder(load_t5(files.model, dtype), files.config.d_model, tokenizer)
