"""Draws batches of images of different prompts, under settings, with the cascade's own stages.

A cascade as it is served draws one prompt at a time. Here a batch is of many prompts, whose texts and neighbors are
encoded once, and a stage that a setting does not change is not compiled again. What a row's image looks like does not
depend on the other rows: it is what `Cascade.draw` draws of that prompt, those neighbors and that seed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from reimagen_evaluation.setting import Setting, StageChange
from reimagen_generator.config.cascade import CascadeConfig, Guidance, StageConfig
from reimagen_generator.config.text import DroppedText
from reimagen_generator.diffusion.cascade import load_placement, size_factor, stage_key
from reimagen_generator.diffusion.placing import Placer, layers
from reimagen_generator.diffusion.references import ReferencePair, resized, side_by_side
from reimagen_generator.diffusion.resize import to_bytes, to_float
from reimagen_generator.diffusion.stage import Stage
from reimagen_generator.networks.network import Network, Text
from reimagen_generator.networks.placement_network import PlacementNetwork
from reimagen_generator.parallel.mesh import available_mesh
from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.text.registry import load_text_encoder
from reimagen_generator.weights import checkpoint

Images = UInt8[np.ndarray, "rows size size 3"]


@dataclass(frozen=True)
class Row:
    """One image to draw."""

    prompt: str
    neighbors: Sequence[ReferencePair]
    seed: int


def seed_of(key: str, sample: int) -> int:
    """The seed of an item's image: of its key and number alone, so that all settings start from the same noise."""
    return int.from_bytes(hashlib.sha256(f"{key}/{sample}".encode()).digest()[:4], "big")


class BatchDrawer:
    """A cascade's weights, and its stages as settings change them."""

    def __init__(
        self,
        config: CascadeConfig,
        networks: Sequence[Network],
        text_encoder: TextEncoder,
        mesh: Mesh | None,
        digest: str,
        placement: PlacementNetwork | None = None,
    ) -> None:
        """Take its networks.

        Args:
            config: what they are parts of.
            networks: one for each stage.
            text_encoder: the one that the configuration names.
            mesh: the devices to draw on; None for where the networks are.
            digest: of the files that they are from.
            placement: the placement network, where the configuration has one.
        """
        self._placer = None if placement is None else Placer(placement)
        self.config = config
        self.digest = digest
        self._networks = networks
        self._text_encoder = text_encoder
        self._mesh = mesh
        self._stages: dict[StageConfig, Stage] = {}

    @classmethod
    def load(cls, folder: Path, text_encoder: Path | None = None) -> Self:
        """A cascade's folder, as `Cascade.load` takes it.

        Raises:
            ValueError: a file is missing or damaged.
        """
        config = checkpoint.load_config(folder)
        files = [folder / checkpoint.stage_file(stage.size) for stage in config.stages]
        mesh = available_mesh(config.mesh)
        networks = [
            checkpoint.load_network(file, stage.network, on_host=mesh is not None)
            for file, stage in zip(files, config.stages, strict=True)
        ]
        encoder = load_text_encoder(config, text_encoder or folder)
        return cls(config, networks, encoder, mesh, checkpoint.digest(folder), load_placement(config, folder))

    def draw(self, rows: Sequence[Row], setting: Setting) -> tuple[Images, ...]:
        """Draws the rows, all of which have neighbors or none has; the images of each stage, the smallest first.

        Raises:
            ValueError: some rows have neighbors and others have none, or there are too many, or the cascade cannot be
                set so.
        """
        slots = max(1, setting.neighbors_of(self.config))
        if len({bool(row.neighbors) for row in rows}) != 1:
            raise ValueError("rows: all must have neighbors, or none, since guidance without neighbors is another")
        if max(len(row.neighbors) for row in rows) > slots:
            raise ValueError(f"neighbors: at most {slots} in this setting")
        text = self._encode([row.prompt for row in rows])
        empty = self._encode([""] * len(rows)) if self.config.dropped_text is DroppedText.EMPTY_PROMPT else None
        filled = [[pair.caption for pair in row.neighbors] + [""] * (slots - len(row.neighbors)) for row in rows]
        neighbor_text = self._encode([caption for captions in filled for caption in captions])
        mask = jnp.asarray([[place < len(row.neighbors) for place in range(slots)] for row in rows])
        placing = None
        if self._placer is not None and rows[0].neighbors:
            seeds = [row.seed for row in rows]
            placing = self._placer.placing([row.neighbors for row in rows], slots, text, neighbor_text, seeds)
        pictures: list[Images] = []
        previous: Float[Array, "rows height width 3"] | None = None
        for index, config in enumerate(setting.change(self.config)):
            shown = mask & setting.stages.get(config.size, StageChange()).grounded
            keys = jnp.stack([stage_key(row.seed, index) for row in rows])
            images = self._images(rows, config, slots)
            stage = self._stage(index, config)
            placed = layers(placing, config.size) if placing and config.network.placed else None
            conditions = stage.conditions(text, images, neighbor_text, shown, previous, keys, empty, placed)
            for sampled in stage.sample(conditions, config.guidance, keys):
                last = sampled.x
            pictures.append(np.asarray(to_bytes(last)))
            previous = to_float(jnp.asarray(pictures[-1]))
        return tuple(pictures)

    def _stage(self, index: int, config: StageConfig) -> Stage:
        """The stage; those that differ in their guidance alone share one, and its compiled code."""
        without = config.model_copy(update={"guidance": Guidance()})
        if without not in self._stages:
            factor = size_factor(self.config, index)
            self._stages[without] = Stage(config, self._networks[index], factor, self._mesh)
        return self._stages[without]

    def _images(
        self, rows: Sequence[Row], config: StageConfig, slots: int
    ) -> Float[Array, "rows slots size size 3"] | None:
        if not config.network.retrieval:
            return None
        shown = (side_by_side(row.neighbors) if self.config.side_by_side else row.neighbors for row in rows)
        return jnp.concatenate([resized(pairs, config.size, slots) for pairs in shown])

    def _encode(self, texts: list[str]) -> Text:
        embedding = self._text_encoder.encode(texts)
        return Text(jnp.asarray(embedding.tokens), jnp.asarray(embedding.mask))
