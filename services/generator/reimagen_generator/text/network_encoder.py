"""A text encoder made of a tokenizer and a network, with a cache of recent embeddings."""

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

_CACHE_SIZE = 256
_LARGEST_BATCH = 8


class Tokenizer(Protocol):
    """Conversion of texts to token ids."""

    length: int
    """Maximum number of tokens of a text."""

    def __call__(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "batch tokens"], Bool[np.ndarray, "batch tokens"]]:
        """Return the token ids, padded to `length` or fewer, and the mask of tokens that are not padding."""
        ...


class NetworkTextEncoder:
    """A thread-safe encoder of texts by a network; the embeddings stay on the device."""

    def __init__(self, network: nnx.Module, channels: int, tokenizer: Tokenizer, remembered: int = _CACHE_SIZE) -> None:
        """Create an encoder of a network.

        Args:
            network: The network, from token ids and mask to embeddings.
            channels: Channels of the embeddings.
            tokenizer: The network's tokenizer.
            remembered: Number of texts whose embeddings are cached; the least recently used are dropped first.
        """
        self.channels = channels
        self.length = tokenizer.length
        self._tokenizer = tokenizer
        self._graph, self._parameters = nnx.split(network)
        self._remembered = remembered
        self._cache: OrderedDict[str, tuple[Float[Array, "length channels"], Bool[Array, " length"]]] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> TextEmbedding:
        """Return the embeddings of the texts' tokens; tokens beyond the encoder's length are cut off.

        An empty text has only its special tokens: its end and, with some encoders, its beginning.
        """
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._cache]
            for start in range(0, len(missing), _LARGEST_BATCH):
                self._encode_missing(missing[start : start + _LARGEST_BATCH])
            for text in texts:
                self._cache.move_to_end(text)
            rows = [self._cache[text] for text in texts]
            while len(self._cache) > self._remembered:
                self._cache.popitem(last=False)
        if not rows:
            return TextEmbedding(jnp.zeros((0, self.length, self.channels)), jnp.zeros((0, self.length), bool))
        tokens, masks = zip(*rows, strict=True)
        return TextEmbedding(jnp.stack(tokens), jnp.stack(masks))

    def _encode_missing(self, texts: list[str]) -> None:
        # The number of rows is rounded up to a power of two, since each number is compiled separately.
        rows = 1 << (len(texts) - 1).bit_length()
        ids, mask = map(jnp.asarray, self._tokenizer(texts + [""] * (rows - len(texts))))
        tokens = self._embed(self._parameters, ids, mask)
        masks = jnp.pad(mask, ((0, 0), (0, self.length - mask.shape[1])))
        for row, text in enumerate(texts):
            self._cache[text] = tokens[row], masks[row]

    @partial(jax.jit, static_argnums=0)
    def _embed(
        self, parameters: nnx.State[Any, Any], ids: Int[Array, "rows tokens"], mask: Bool[Array, "rows tokens"]
    ) -> Float[Array, "rows length channels"]:
        tokens = nnx.merge(self._graph, parameters)(ids, mask)
        # Zero in the padding, so that the length of a tokenizer's padding has no effect.
        return jnp.pad(tokens * mask[..., None], ((0, 0), (0, self.length - ids.shape[1]), (0, 0)))
