"""T5 v1.1 as a text encoder: where its files are, and how they are loaded."""

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
    """Where a model's files are."""

    model: Path
    """The folder of `config.json` and the weights."""
    pieces: Path
    """`spiece.model`."""
    config: T5Config


def t5_files(folder: Path) -> T5Files:
    """Finds a model's files.

    Args:
        folder: the model's own, with its `spiece.model`, or one that holds `text_encoder` and `tokenizer`.

    Raises:
        ValueError: one of the files is not there, or `config.json` is not of a T5 v1.1.
    """
    model = folder / "text_encoder" if (folder / "text_encoder").is_dir() else folder
    if not (model / "config.json").is_file():
        raise ValueError(
            f"text_encoder: there is no T5 v1.1 in {folder}: neither config.json nor text_encoder/config.json"
        )
    # A link to a pipeline's text_encoder has the tokenizer beside what it leads to.
    places = (model, model.parent / "tokenizer", model.resolve().parent / "tokenizer")
    for place in places:
        if (place / "spiece.model").is_file():
            return T5Files(model, place / "spiece.model", load_config(model))
    raise ValueError(f"text_encoder: there is no spiece.model in {places[0]} or {places[1]}")


def load_t5_text_encoder(files: T5Files, length: int) -> NetworkTextEncoder:
    """The encoder of a model's files; bfloat16 on an accelerator, float32 on a CPU, where bfloat16 gains nothing.

    Args:
        files: of `t5_files`.
        length: tokens of a text.

    Raises:
        ValueError: a file is missing or damaged.
    """
    tokenizer = T5Tokenizer(files.pieces, length)
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return NetworkTextEncoder(load_t5(files.model, dtype), files.config.d_model, tokenizer)
