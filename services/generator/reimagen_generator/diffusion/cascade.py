"""The cascade: a list of stages, each drawing a larger image from the one before.

prompt ──────────┬──────────────┬──────────────┐
neighbors ───────┤              ┤              │
              64 × 64 ──▶ 256 × 256 ──▶ 1024 × 1024
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key, UInt8

from reimagen_common.errors import InvalidArgument
from reimagen_generator.config.cascade import CascadeConfig, Guidance, StageConfig, Strategy
from reimagen_generator.config.text import DroppedText
from reimagen_generator.diffusion.events import ImagesEvent, StepEvent
from reimagen_generator.diffusion.placing import Placer, layers
from reimagen_generator.diffusion.references import ReferencePair, resized, side_by_side
from reimagen_generator.diffusion.resize import to_bytes, to_float
from reimagen_generator.diffusion.stage import Stage
from reimagen_generator.networks.network import Network, Text, parameter_count
from reimagen_generator.networks.placement_network import PlacementNetwork
from reimagen_generator.networks.registry import build_network
from reimagen_generator.parallel.mesh import available_mesh
from reimagen_generator.text.encoder import TextEncoder
from reimagen_generator.text.registry import load_text_encoder
from reimagen_generator.weights import checkpoint

Images = UInt8[np.ndarray, "rows size size 3"]


@dataclass(frozen=True)
class GuidanceOptions:
    """What a request changes of the retrieval-conditioned stages' guidance; None keeps a stage's own value."""

    strategy: Strategy | None = None
    text_weight: float | None = None
    neighbor_weight: float | None = None
    interleave_ratio: float | None = None


@dataclass(frozen=True)
class Row:
    """One image to draw."""

    prompt: str
    neighbors: Sequence[ReferencePair]
    seed: int


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
        self._mesh = mesh
        self._own = tuple(
            Stage(stage, network, size_factor(config, index), mesh)
            for index, (stage, network) in enumerate(zip(config.stages, networks, strict=True))
        )
        self._stages: dict[StageConfig, Stage] = {}
        """The stages by their configuration without guidance, with their compiled code."""
        for stage in self._own:
            self._stages[stage.config.model_copy(update={"guidance": Guidance()})] = stage

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
        for stage in self._own:
            checkpoint.save_network(stage.network, folder / checkpoint.stage_file(stage.config.size))
        if self.placer is not None:
            checkpoint.save_network(self.placer.network, folder / checkpoint.PLACEMENT_FILE)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The stages' networks."""
        return tuple(stage.network for stage in self._own)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that may be asked for."""
        return tuple(stage.size for stage in self.config.stages)

    def resolve_guidance(self, options: GuidanceOptions, size: int) -> tuple[Guidance, ...]:
        """Return the guidance of each stage up to `size`, as `draw` takes it.

        Args:
            options: What a request changes of the retrieval-conditioned stages.
            size: One of `sizes`.

        Raises:
            InvalidArgument: a stage cannot follow it; names the field, such as `guidance.strategy`.
        """
        stages = [stage for stage in self.config.stages if stage.size <= size]
        changes = {name: value for name, value in vars(options).items() if value is not None}
        resolved = []
        for stage in stages:
            guidance = stage.guidance.model_copy(update=changes) if stage.network.retrieval else stage.guidance
            if conflict := stage.guidance_conflict(guidance):
                raise InvalidArgument(conflict, field="guidance.strategy")
            resolved.append(guidance)
        used = {guidance.strategy for stage, guidance in zip(stages, resolved, strict=True) if stage.network.retrieval}
        for name in ("neighbor_weight", "interleave_ratio"):
            if used == {Strategy.JOINT} and name in changes:
                raise InvalidArgument(
                    "joint guidance has text_weight alone, which guides text and neighbors together; leave this out, "
                    "or set guidance.strategy to weighted or interleaved",
                    field=f"guidance.{name}",
                )
        return tuple(resolved)

    def draw(
        self,
        prompt: str,
        neighbors: Sequence[ReferencePair],
        *,
        seeds: Sequence[int],
        size: int,
        guidance: Sequence[Guidance] | None = None,
        steps_factor: float = 1.0,
        previews: frozenset[int] = frozenset(),
    ) -> Generator[StepEvent | ImagesEvent, None, None]:
        """Draw one image for each seed, all in one batch; stop iterating to cancel.

        A seed gives the same image on the same machine, and its noise does not depend on the other seeds.

        Args:
            prompt: What to draw.
            neighbors: At most `config.maximum_k`; none draws from the text alone.
            seeds: At least one.
            size: One of `sizes`.
            guidance: Of each stage, from `resolve_guidance`; None for the stages' own.
            steps_factor: How many times its own steps each stage takes.
            previews: The steps, counted from 1 over all stages, whose events have a preview.

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
        rows = [Row(prompt, neighbors, seed) for seed in seeds]
        stages = list(self.config.stages[: self.sizes.index(size) + 1])
        if guidance is not None:
            stages = [stage.model_copy(update={"guidance": each}) for stage, each in zip(stages, guidance, strict=True)]
        slots, grounded = _slots(len(neighbors), self.config), [True] * len(stages)
        for event in self._draw(rows, stages, slots, grounded, steps_factor, previews):
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
        steps_factor: float = 1.0,
        previews: frozenset[int] = frozenset(),
        only_first_step: bool = False,
    ) -> Generator[StepEvent | ImagesEvent, None, None]:
        """Draw a batch through the stages; yield the events of each stage's steps, then its images.

        Args:
            rows: The images to draw.
            stages: The stages to draw with.
            slots: Places for neighbors in each row; unused ones are masked.
            grounded: Whether each stage is shown the neighbors.
            steps_factor: How many times its own steps each stage takes.
            previews: The steps, counted from 1 over all stages, whose events have a preview.
            only_first_step: Whether to leave out the later steps of stages whose steps are compiled as one.
        """
        # Rows that share their neighbors, as those of one request do, share what is computed of them.
        by_identity = {id(row.neighbors): row.neighbors for row in rows}
        different = list(by_identity.values())
        which = np.asarray([list(by_identity).index(id(row.neighbors)) for row in rows])
        shown = [side_by_side(pairs) if self.config.side_by_side else pairs for pairs in different]
        text = self._encode([row.prompt for row in rows])
        empty = self._encode([""] * len(rows)) if self.config.dropped_text is DroppedText.EMPTY_PROMPT else None
        filled = [[pair.caption for pair in pairs] + [""] * (slots - len(pairs)) for pairs in different]
        captions = [caption for each in filled for caption in each]
        by_slot = (which[:, None] * slots + np.arange(slots)).reshape(-1)
        neighbor_text = jax.tree.map(lambda a: a[by_slot], self._encode(captions))
        mask = jnp.asarray([[slot < len(row.neighbors) for slot in range(slots)] for row in rows])
        placing = None
        if self.placer is not None and any(row.neighbors for row in rows):
            seeds = [row.seed for row in rows]
            placing = self.placer.placing([shown[i] for i in which], slots, text, neighbor_text, seeds)
        previous: Float[Array, "n height width 3"] | None = None
        steps_before = 0
        for index, config in enumerate(stages):
            stage = self._stage(index, config)
            images = None
            if config.network.retrieval:
                images = jnp.concatenate([resized(pairs, config.size, slots) for pairs in shown])[which]
            keys = jnp.stack([stage_key(row.seed, index) for row in rows])
            placed = layers(placing, config.size) if placing and config.network.placed else None
            conditions = stage.conditions(
                text, images, neighbor_text, mask & grounded[index], previous, keys, empty, placed
            )
            last = 1 if only_first_step and config.guidance.interval is None else None
            for event, state in islice(stage.sample(conditions, config.guidance, keys, steps_factor), last):
                previous = state.x.block_until_ready()  # JAX runs ahead: an event means that the step is done
                due = steps_before + event.step in previews
                yield replace(event, stage=index, preview=np.asarray(to_bytes(state.x_0[0])) if due else None)
            steps_before += event.steps
            drawn = to_bytes(jnp.asarray(previous))
            yield ImagesEvent(np.asarray(drawn))
            # The next stage was trained on images of bytes.
            previous = to_float(drawn)

    def _stage(self, index: int, config: StageConfig) -> Stage:
        """Return a stage as `config` says; those that differ in guidance alone share one, and its compiled code."""
        key = config.model_copy(update={"guidance": Guidance()})
        if key not in self._stages:
            self._stages[key] = Stage(config, self._own[index].network, size_factor(self.config, index), self._mesh)
        return self._stages[key]

    def warm_up(self, batch_size: int = 1) -> None:
        """Compile usual requests: take a step of each stage, with the default number of neighbors and with none.

        Args:
            batch_size: How many images are drawn at once.
        """
        pair = ReferencePair(np.zeros((8, 8, 3), np.uint8), "")
        steps = sum(stage.steps for stage in self.config.stages)
        for neighbors in ([pair] * self.config.default_k, []):
            rows = [Row("", neighbors, 0)] * batch_size
            slots = _slots(len(neighbors), self.config)
            grounded, previews = [True] * len(self.config.stages), frozenset(range(1, steps + 1))
            for _ in self._draw(rows, self.config.stages, slots, grounded, previews=previews, only_first_step=True):
                pass

    def _encode(self, texts: list[str]) -> Text:
        embedding = self.text_encoder.encode(texts)
        return Text(jnp.asarray(embedding.tokens), jnp.asarray(embedding.mask))


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


def _slots(neighbors: int, config: CascadeConfig) -> int:
    """Places for neighbors, of few different numbers, since each one is compiled anew; unused ones are masked."""
    slots = max(1, config.default_k)
    while slots < neighbors:
        slots *= 2
    return slots


def stage_key(seed: int, index: int) -> Key[Array, ""]:
    """Of all that is random in an image's stage."""
    return jax.random.fold_in(jax.random.key(seed), index)
