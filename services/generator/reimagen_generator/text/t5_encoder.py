"""T5 v1.1 as a text encoder: tokenizer, network, and the embeddings of the texts that come again."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from reimagen_generator.text.encoder import TextEmbedding
from reimagen_generator.text.t5 import T5, T5Config
from reimagen_generator.text.t5_checkpoint import load_config, load_t5
from reimagen_generator.text.t5_tokenizer import T5Tokenizer

_REMEMBERED = 256
_LARGEST_BATCH = 8


class T5TextEncoder:
    """Texts to T5's embeddings, which stay on the device. Threads may share it."""

    def __init__(self, network: T5, tokenizer: T5Tokenizer, remembered: int = _REMEMBERED) -> None:
        """Takes a network.

        Args:
            network: the encoder.
            tokenizer: its own.
            remembered: texts whose embeddings are kept, the least recently used forgotten first.
        """
        self.channels = network.config.d_model
        self.length = tokenizer.length
        self._tokenizer = tokenizer
        self._graph, self._parameters = nnx.split(network)
        self._remembered = remembered
        self._known: OrderedDict[str, tuple[Float[Array, "length channels"], Bool[Array, " length"]]] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """Embeddings of the texts' tokens; what is beyond the encoder's length is cut off.

        An empty text has one token, its end.
        """
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._known]
            for start in range(0, len(missing), _LARGEST_BATCH):
                self._learn(missing[start : start + _LARGEST_BATCH])
            for text in texts:
                self._known.move_to_end(text)
            rows = [self._known[text] for text in texts]
            while len(self._known) > self._remembered:
                self._known.popitem(last=False)
        if not rows:
            return TextEmbedding(jnp.zeros((0, self.length, self.channels)), jnp.zeros((0, self.length), bool))
        tokens, masks = zip(*rows, strict=True)
        return TextEmbedding(jnp.stack(tokens), jnp.stack(masks))

    def _learn(self, texts: list[str]) -> None:
        # Few different numbers of rows, since each is compiled anew.
        rows = 1 << (len(texts) - 1).bit_length()
        ids, mask = map(jnp.asarray, self._tokenizer(texts + [""] * (rows - len(texts))))
        tokens = self._embed(self._parameters, ids, mask)
        for row, text in enumerate(texts):
            self._known[text] = tokens[row], mask[row]

    @partial(jax.jit, static_argnums=0)
    def _embed(
        self, parameters: nnx.State[Any, Any], ids: Int[Array, "rows length"], mask: Bool[Array, "rows length"]
    ) -> Float[Array, "rows length channels"]:
        network: T5 = nnx.merge(self._graph, parameters)
        return network(ids, mask)


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


def load_t5_text_encoder(files: T5Files, length: int) -> T5TextEncoder:
    """The encoder of a model's files; bfloat16 on an accelerator, float32 on a CPU, where bfloat16 gains nothing.

    Args:
        files: of `t5_files`.
        length: tokens of a text.

    Raises:
        ValueError: a file is missing or damaged.
    """
    tokenizer = T5Tokenizer(files.pieces, length)
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return T5TextEncoder(load_t5(files.model, dtype), tokenizer)
