"""What images are drawn from: encoded texts and neighbors, and the placements of the neighbors' objects.

Many images share prompts, captions and neighbors: those of one request, those of popular entities, and those of two
stages. Whatever is encoded of them is kept in caches on the device, by content.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from cachetools import LRUCache
from jaxtyping import Array, Bool, Float

from reimagen_generator.config.cascade import CascadeConfig
from reimagen_generator.config.text import DroppedText
from reimagen_generator.diffusion.placing import Placer, Placing, layers
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.diffusion.resize import resized
from reimagen_generator.diffusion.sampling_state import concatenate_rows
from reimagen_generator.diffusion.stage import Stage
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import Text
from reimagen_generator.text.encoder import TextEncoder

_TEXT_BYTES: Final = 128 * 1024**2
_NEIGHBOR_BYTES: Final = 512 * 1024**2


@dataclass(frozen=True)
class Row:
    """One image to draw."""

    prompt: str
    neighbors: Sequence[ReferencePair]
    seed: int
    negative_prompt: str | None = None
    """Text that guidance leads away from, in place of no text."""


@dataclass(frozen=True)
class Inputs:
    """What a batch of images is drawn from, the same for all stages."""

    rows: Sequence[Row]
    slots: int
    """Number of neighbors for which the arrays have space; unused slots are masked."""
    text: Text
    empty_text: Text
    """What stands for no text where guidance drops it: the negative prompt, if the image has one."""
    placing: Placing | None


class InputEncoder:
    """Encodes the inputs of images, each distinct text and set of neighbors once. Any thread may call it."""

    def __init__(self, config: CascadeConfig, text_encoder: TextEncoder, placer: Placer | None) -> None:
        """Create an encoder with empty caches.

        Args:
            config: The configuration of the cascade.
            text_encoder: The text encoder that it names.
            placer: The placer of the neighbors' objects; None without a placement network.
        """
        self._config = config
        self._text_encoder = text_encoder
        self._placer = placer
        # Guards the caches only: two threads may encode at once, at worst the same.
        self._lock = threading.Lock()
        self._texts: LRUCache[str, Text] = LRUCache(_TEXT_BYTES, getsizeof=_bytes)
        self._neighbors: LRUCache[tuple[Any, ...], Neighbors] = LRUCache(_NEIGHBOR_BYTES, getsizeof=_bytes)

    def encode(self, rows: Sequence[Row], slots: int) -> Inputs:
        """Return the inputs of a batch of images with at most `slots` neighbors each."""
        neighbors = [row.neighbors for row in rows]
        text = self._text([row.prompt for row in rows])
        empty = self._empty_text([row.negative_prompt for row in rows], text)
        placing = None
        if self._placer is not None and any(neighbors):
            captions = [caption for pairs in neighbors for caption in _captions(pairs, slots)]
            placing = self._placer.placing(neighbors, slots, text, self._text(captions), [row.seed for row in rows])
        return Inputs(rows, slots, text, empty, placing)

    def neighbors(self, stage: Stage, inputs: Inputs, *, grounded: bool = True) -> Neighbors | None:
        """Return the encoded neighbors of each image for a stage; None for a network without retrieval.

        Args:
            stage: The stage.
            inputs: What the images are drawn from.
            grounded: Whether the stage is shown the neighbors; otherwise all of them are masked.
        """
        if not stage.config.network.retrieval:
            return None
        neighbors = concatenate_rows([self._encoded(stage, row.neighbors, inputs.slots) for row in inputs.rows])
        # The weights are not part of the cache: they change the attention to the encoded neighbors, not the encoding.
        neighbors = replace(neighbors, log_weights=_log_weights(inputs.rows, inputs.slots))
        if inputs.placing is not None and stage.config.network.placed:
            neighbors = replace(neighbors, placed=layers(inputs.placing, stage.config.size))
        return neighbors if grounded else replace(neighbors, mask=jnp.zeros_like(neighbors.mask))

    def _encoded(self, stage: Stage, pairs: Sequence[ReferencePair], slots: int) -> Neighbors:
        """Return one image's encoded neighbors, from the cache if they are there."""
        key = (stage.config.size, slots, tuple(pair.digest for pair in pairs))
        with self._lock:
            encoded: Neighbors | None = self._neighbors.get(key)
        if encoded is None:
            images = resized(pairs, stage.config.size, slots)
            encoded = stage.encode_neighbors(images, self._text(_captions(pairs, slots)), _mask(len(pairs), slots))
            self._store(self._neighbors, key, encoded)
        return encoded

    def _empty_text(self, negative_prompts: Sequence[str | None], text: Text) -> Text:
        """Return what stands for no text in each image, of the same shape for all, so that they can share a batch."""
        if self._config.dropped_text is DroppedText.EMPTY_PROMPT:
            return self._text([negative or "" for negative in negative_prompts])
        masked = Text(text.tokens, jnp.zeros_like(text.mask))
        if not any(negative_prompts):
            return masked
        return concatenate_rows(
            [
                self._text([negative]) if negative else Text(masked.tokens[row : row + 1], masked.mask[row : row + 1])
                for row, negative in enumerate(negative_prompts)
            ]
        )

    def _text(self, texts: Sequence[str]) -> Text:
        """Return encoded texts, one row for each."""
        with self._lock:
            known = {text: self._texts[text] for text in texts if text in self._texts}
        if missing := [text for text in dict.fromkeys(texts) if text not in known]:
            embedding = self._text_encoder.encode(missing)
            tokens, mask = jnp.asarray(embedding.tokens), jnp.asarray(embedding.mask)
            for index, text in enumerate(missing):
                known[text] = Text(tokens[index : index + 1], mask[index : index + 1])
                self._store(self._texts, text, known[text])
        return concatenate_rows([known[text] for text in texts])

    def _store(self, cache: LRUCache[Any, Any], key: Any, tree: Any) -> None:
        """Store a tree, unless it alone is larger than the cache."""
        if _bytes(tree) <= cache.maxsize:
            with self._lock:
                cache[key] = tree


def _captions(pairs: Sequence[ReferencePair], slots: int) -> list[str]:
    return [pair.caption for pair in pairs] + [""] * (slots - len(pairs))


def _log_weights(rows: Sequence[Row], slots: int) -> Float[Array, "rows slots"]:
    weights = [[pair.weight for pair in row.neighbors] + [1.0] * (slots - len(row.neighbors)) for row in rows]
    return jnp.asarray(np.log(np.asarray(weights, np.float32)))


def _mask(neighbors: int, slots: int) -> Bool[Array, "1 slots"]:
    return jnp.asarray(np.arange(slots) < neighbors)[None]


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
