"""The cascade: a list of stages, each drawing a larger image from the one before.

prompt ──────────┬──────────────┬──────────────┐
neighbors ───────┤              ┤              │
              64 × 64 ──▶ 256 × 256 ──▶ 1024 × 1024
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key, UInt8

from reimagen_generator.config.cascade import CascadeConfig, Guidance, StageConfig
from reimagen_generator.diffusion.conditions import Conditions
from reimagen_generator.diffusion.events import ImagesEvent, StepEvent
from reimagen_generator.diffusion.inputs import InputEncoder, Inputs, Row
from reimagen_generator.diffusion.options import DrawingOptions, GuidanceOptions, resolve
from reimagen_generator.diffusion.placing import Placer
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.diffusion.resize import to_bytes, to_float
from reimagen_generator.diffusion.stage import Stage
from reimagen_generator.networks.network import Network, parameter_count
from reimagen_generator.networks.placement_network import PlacementNetwork
from reimagen_generator.networks.registry import build_network
from reimagen_generator.parallel.mesh import available_mesh
from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.text.registry import load_text_encoder
from reimagen_generator.weights import checkpoint

Images = UInt8[np.ndarray, "rows size size 3"]


class Cascade:
    """Draws images. One call to `draw` at a time."""

    def __init__(
        self,
        config: CascadeConfig,
        networks: Sequence[Network],
        text_encoder: TextEncoder,
        mesh: Mesh | None = None,
        placement: PlacementNetwork | None = None,
    ) -> None:
        """Make a cascade of networks.

        Args:
            config: The configuration of the cascade.
            networks: The network of each stage.
            text_encoder: The text encoder that the configuration names.
            mesh: The devices to draw on; None for the device of the networks.
            placement: The placement network; None if the configuration has none.
        """
        self.config = config
        self.placer = None if placement is None else Placer(placement)
        """Places references; None without a placement network."""
        self.parameters = tuple(parameter_count(network) for network in networks)
        self.text_encoder = text_encoder
        self.inputs = InputEncoder(config, text_encoder, self.placer)
        """Encodes what images are drawn from."""
        self._mesh = mesh
        self._stages = tuple(
            Stage(stage, network, size_factor(config, index), mesh)
            for index, (stage, network) in enumerate(zip(config.stages, networks, strict=True))
        )

    @classmethod
    def load(cls, folder: Path, text_encoder: Path | None = None) -> Self:
        """Load a folder that `save` wrote, onto all devices.

        Args:
            folder: The folder of the configuration and weights.
            text_encoder: The folder of the T5 that the configuration names; None if `folder` has it, as `text_encoder`
                and `tokenizer`, or if the configuration names no T5.

        Raises:
            ValueError: a file is missing or damaged, or does not fit the configuration, or the configuration does not
                fit the devices.
        """
        config = checkpoint.load_config(folder)
        mesh = available_mesh(config.mesh)
        encoder = load_text_encoder(config, text_encoder or folder)
        files = [folder / checkpoint.stage_file(stage.size) for stage in config.stages]
        networks = [
            checkpoint.load_network(file, stage.network, on_host=mesh is not None)
            for file, stage in zip(files, config.stages, strict=True)
        ]
        return cls(config, networks, encoder, mesh, load_placement(config, folder))

    @classmethod
    def random(cls, config: CascadeConfig, seed: int, text_encoder: Path | None = None) -> Self:
        """Return a cascade of random weights; a text encoder's weights are those of its folder."""
        networks = [build_network(stage.network, nnx.Rngs(seed + i)) for i, stage in enumerate(config.stages)]
        placement = None if config.placement is None else PlacementNetwork(config.placement, nnx.Rngs(seed))
        return cls(config, networks, load_text_encoder(config, text_encoder), placement=placement)

    def save(self, folder: Path) -> None:
        """Write configuration and weights into a folder."""
        checkpoint.save_config(self.config, folder)
        for stage in self._stages:
            checkpoint.save_network(stage.network, folder / checkpoint.stage_file(stage.config.size))
        if self.placer is not None:
            checkpoint.save_network(self.placer.network, folder / checkpoint.PLACEMENT_FILE)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The stages' networks."""
        return tuple(stage.network for stage in self._stages)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that may be asked for."""
        return tuple(stage.size for stage in self.config.stages)

    @property
    def slot_counts(self) -> tuple[int, ...]:
        """The numbers of slots for neighbors for which code is compiled; an image uses the least that suffices.

        Each is four times the one before: few, because every number is compiled for each stage.
        """
        counts = [max(1, self.config.default_k)]
        while counts[-1] < self.config.maximum_k:
            counts.append(min(4 * counts[-1], self.config.maximum_k))
        return tuple(counts)

    def slots_for(self, neighbors: int) -> int:
        """Return the number of slots of an image with that many neighbors."""
        return next(slots for slots in self.slot_counts if slots >= neighbors)

    def resolve_guidance(self, options: GuidanceOptions, size: int) -> tuple[Guidance, ...]:
        """Return the guidance of each stage up to `size`, as `draw` takes it.

        Args:
            options: What a request changes of the retrieval-conditioned stages.
            size: One of `sizes`.

        Raises:
            InvalidArgument: a stage cannot follow it; names the field, such as `guidance.strategy`.
        """
        return tuple(stage.guidance for stage in resolve(self.config, DrawingOptions(options), size))

    def draw(
        self,
        prompt: str,
        neighbors: Sequence[ReferencePair],
        *,
        seeds: Sequence[int],
        size: int,
        guidance: Sequence[Guidance] | None = None,
        negative_prompt: str | None = None,
    ) -> Generator[StepEvent | ImagesEvent, None, None]:
        """Draw one image for each seed, all in one batch; stop iterating to cancel.

        A seed gives the same image on the same machine, and its noise does not depend on the other seeds.

        Args:
            prompt: What to draw.
            neighbors: At most `config.maximum_k`; none draws from the text alone.
            seeds: At least one.
            size: One of `sizes`.
            guidance: Of each stage, from `resolve_guidance`; None for the stages' own.
            negative_prompt: What guidance leads away from, in place of no text.

        Yields:
            One `StepEvent` a step, then one `ImagesEvent`.

        Raises:
            ValueError: the size is not one of `sizes`, there is no seed, or there are too many neighbors.
        """
        if size not in self.sizes:
            raise ValueError(f"size: must be one of {', '.join(map(str, self.sizes))}, got {size}")
        if not seeds:
            raise ValueError("seeds: at least one is needed")
        if len(neighbors) > self.config.maximum_k:
            raise ValueError(f"neighbors: at most {self.config.maximum_k}, got {len(neighbors)}")
        rows = [Row(prompt, neighbors, seed, negative_prompt) for seed in seeds]
        stages = list(self.config.stages[: self.sizes.index(size) + 1])
        if guidance is not None:
            stages = [stage.model_copy(update={"guidance": each}) for stage, each in zip(stages, guidance, strict=True)]
        for event in self._draw(rows, stages, self.slots_for(len(neighbors)), [True] * len(stages)):
            if isinstance(event, StepEvent) or event.images.shape[1] == size:
                yield event

    def draw_rows(
        self, rows: Sequence[Row], stages: Sequence[StageConfig], slots: int, grounded: Sequence[bool]
    ) -> tuple[Images, ...]:
        """Draw images of different prompts as one batch; return those of each stage, the smallest first.

        A row's images do not depend on the other rows: they are what `draw` gives for its prompt, neighbors and seed.

        Args:
            rows: The images to draw.
            stages: The cascade's stages as they are to draw, from the first on.
            slots: The most neighbors of a row, as which all rows are compiled.
            grounded: Whether each stage is shown the neighbors.

        Raises:
            ValueError: a row has more neighbors than `slots`.
        """
        if max(len(row.neighbors) for row in rows) > slots:
            raise ValueError(f"neighbors: at most {slots}")
        return tuple(
            event.images for event in self._draw(rows, stages, slots, grounded) if isinstance(event, ImagesEvent)
        )

    def _draw(
        self,
        rows: Sequence[Row],
        stages: Sequence[StageConfig],
        slots: int,
        grounded: Sequence[bool],
    ) -> Generator[StepEvent | ImagesEvent, None, None]:
        """Draw a batch through the stages; yield the events of each stage's steps, then its images.

        Args:
            rows: The images to draw.
            stages: The stages to draw with.
            slots: Number of neighbors for which each row has space; unused slots are masked.
            grounded: Whether each stage is shown the neighbors.
        """
        inputs = self.inputs.encode(rows, slots)
        previous: Float[Array, "n height width 3"] | None = None
        for index, config in enumerate(stages):
            stage = self._stages[index].with_config(config)
            conditions, keys = self.conditions(index, inputs, previous, grounded=grounded[index])
            for event, state in stage.sample(conditions, config.guidance, keys):
                previous = state.x.block_until_ready()  # JAX runs ahead: an event means that the step is done
                yield replace(event, stage=index)
            drawn, previous = as_bytes(jnp.asarray(previous))
            yield ImagesEvent(np.asarray(drawn))

    def conditions(
        self, index: int, inputs: Inputs, previous: Float[Array, "n height width 3"] | None, *, grounded: bool = True
    ) -> tuple[Conditions, Key[Array, " n"]]:
        """Return what a stage draws a batch of images from, and their random keys.

        Args:
            index: Index of the stage.
            inputs: The inputs of the images.
            previous: The images of the stage before, in [-1, 1]; None for the first stage.
            grounded: Whether the stage is shown the neighbors.
        """
        stage = self._stages[index]
        keys = jnp.stack([stage_key(row.seed, index) for row in inputs.rows])
        neighbors = self.inputs.neighbors(stage, inputs, grounded=grounded)
        return stage.conditions(inputs.text, neighbors, previous, keys, inputs.empty_text), keys

    def stage(self, index: int) -> Stage:
        """Return a stage."""
        return self._stages[index]


def load_placement(config: CascadeConfig, folder: Path) -> PlacementNetwork | None:
    """Return the placement network of a cascade's folder; None for a cascade that has none.

    Raises:
        ValueError: the weights are missing, or do not fit the configuration.
    """
    if config.placement is None:
        return None
    return checkpoint.load_placement(folder / checkpoint.PLACEMENT_FILE, config.placement)


def size_factor(config: CascadeConfig, index: int) -> int | None:
    """Return a stage's size over the previous stage's; None for the first stage."""
    return config.stages[index].size // config.stages[index - 1].size if index else None


@jax.jit
def as_bytes(
    images: Float[Array, "n height width 3"],
) -> tuple[UInt8[Array, "n height width 3"], Float[Array, "n height width 3"]]:
    """Return a stage's images as bytes, and in [-1, 1] as the next stage was trained on them: rounded to bytes."""
    drawn = to_bytes(images)
    return drawn, to_float(drawn)


@jax.jit
def as_preview(images: Float[Array, "n height width 3"]) -> UInt8[Array, "height width 3"]:
    """Return the first of several images as bytes."""
    return to_bytes(images[0])


def wait_for(arrays: Any) -> None:
    """Wait until a tree of arrays is computed. JAX runs ahead of its arrays."""
    jax.block_until_ready(arrays)  # type: ignore[no-untyped-call]


def stage_key(seed: int, index: int) -> Key[Array, ""]:
    """Of all that is random in an image's stage."""
    return jax.random.fold_in(jax.random.key(seed), index)
