"""A network as a text encoder: tokenizer, network, and the embeddings of the texts that come again."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from reimagen_generator.text.encoder import TextEmbedding

_REMEMBERED = 256
_LARGEST_BATCH = 8


class Tokenizer(Protocol):
    """Texts as the numbers of their tokens."""

    length: int
    """The most tokens of a text."""

    def __call__(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "batch tokens"], Bool[np.ndarray, "batch tokens"]]:
        """The tokens, padded to `length` or fewer, and which of them are no padding."""
        ...


class NetworkTextEncoder:
    """Texts to a network's embeddings, which stay on the device. Threads may share it."""

    def __init__(self, network: nnx.Module, channels: int, tokenizer: Tokenizer, remembered: int = _REMEMBERED) -> None:
        """Take a network.

        Args:
            network: from tokens and mask to embeddings.
            channels: of the embeddings.
            tokenizer: the network's own.
            remembered: texts whose embeddings are kept, the least recently used forgotten first.
        """
        self.channels = channels
        self.length = tokenizer.length
        self._tokenizer = tokenizer
        self._graph, self._parameters = nnx.split(network)
        self._remembered = remembered
        self._known: OrderedDict[str, tuple[Float[Array, "length channels"], Bool[Array, " length"]]] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """Embeddings of the texts' tokens; what is beyond the encoder's length is cut off.

        An empty text has its marks alone: its end, with some encoders also its beginning.
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
        masks = jnp.pad(mask, ((0, 0), (0, self.length - mask.shape[1])))
        for row, text in enumerate(texts):
            self._known[text] = tokens[row], masks[row]

    @partial(jax.jit, static_argnums=0)
    def _embed(
        self, parameters: nnx.State[Any, Any], ids: Int[Array, "rows tokens"], mask: Bool[Array, "rows tokens"]
    ) -> Float[Array, "rows length channels"]:
        tokens = nnx.merge(self._graph, parameters)(ids, mask)
        # Zero where there is padding, so that how far a tokenizer pads changes nothing.
        return jnp.pad(tokens * mask[..., None], ((0, 0), (0, self.length - ids.shape[1]), (0, 0)))
