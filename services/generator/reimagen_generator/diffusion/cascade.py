"""The cascade: a list of stages, each drawing a larger image from the one before.

prompt ──────────┬──────────────┬──────────────┐
neighbors ───────┤              ┤              │
              64 × 64 ──▶ 256 × 256 ──▶ 1024 × 1024
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key, UInt8

from reimagen_generator.config.cascade import CascadeConfig, Guidance, StageConfig, Strategy
from reimagen_generator.config.text import DroppedText
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

_Image = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class GuidanceOptions:
    """What a request changes of the retrieval-conditioned stages' guidance; None keeps a stage's own value."""

    strategy: Strategy | None = None
    text_weight: float | None = None
    neighbor_weight: float | None = None
    interleave_ratio: float | None = None


@dataclass(frozen=True)
class StepDone:
    """One step of one stage is done. `preview` gives the first image as the stage now predicts it."""

    stage: int
    size: int
    step: int
    steps: int
    evaluations: int
    """How often the network was evaluated for each image."""
    preview: Callable[[], _Image]


@dataclass(frozen=True)
class Drawn:
    """The images."""

    images: UInt8[np.ndarray, "n size size 3"]


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
        """Takes its networks.

        Args:
            config: what they are parts of.
            networks: one for each stage.
            text_encoder: the one that the configuration names.
            mesh: the devices to draw on; None for where the networks are.
            placement: the placement network, where the configuration has one.
        """
        self.config = config
        self.placer = None if placement is None else Placer(placement)
        """Places references, where the cascade has a placement network."""
        self.parameters = tuple(parameter_count(network) for network in networks)
        self.text_encoder = text_encoder
        self._stages = tuple(
            Stage(stage, network, size_factor(config, index), mesh)
            for index, (stage, network) in enumerate(zip(config.stages, networks, strict=True))
        )

    @classmethod
    def load(cls, folder: Path, text_encoder: Path | None = None) -> Self:
        """A cascade from a folder that `save` wrote, on all devices that there are.

        Args:
            folder: configuration and weights.
            text_encoder: folder of the T5 that the configuration asks for; None where `folder` itself holds it, as
                `text_encoder` and `tokenizer`, or where no T5 is asked for.

        Raises:
            ValueError: a file is missing or damaged, or does not fit the configuration, or this the devices.
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
        """A cascade of random weights; a T5's, if the configuration asks for one, are those of the folder."""
        networks = [build_network(stage.network, nnx.Rngs(seed + i)) for i, stage in enumerate(config.stages)]
        placement = None if config.placement is None else PlacementNetwork(config.placement, nnx.Rngs(seed))
        return cls(config, networks, load_text_encoder(config, text_encoder), placement=placement)

    def save(self, folder: Path) -> None:
        """Writes configuration and weights."""
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

    def check_guidance(self, options: GuidanceOptions, size: int) -> None:
        """Refuses guidance that a stage on the way to `size` cannot follow.

        Raises:
            ValueError: naming the field, as `guidance.strategy`.
        """
        stages = [stage for stage in self.config.stages if stage.size <= size]
        for stage in stages:
            stage.check_guidance(_guidance(stage, options))
        used = {_guidance(stage, options).strategy for stage in stages if stage.network.retrieval}
        for name in ("neighbor_weight", "interleave_ratio"):
            if used == {Strategy.JOINT} and getattr(options, name) is not None:
                raise ValueError(
                    f"guidance.{name}: joint guidance has text_weight alone, which guides text and neighbors together; "
                    "leave this out, or set guidance.strategy to weighted or interleaved"
                )

    def draw(
        self,
        prompt: str,
        neighbors: Sequence[ReferencePair],
        *,
        seeds: Sequence[int],
        size: int,
        guidance: GuidanceOptions = GuidanceOptions(),
        steps_factor: float = 1.0,
    ) -> Generator[StepDone | Drawn, None, None]:
        """Draws one image for each seed, all in one batch; stop iterating to cancel.

        A seed gives the same image on the same machine, and its noise does not depend on the other seeds.

        Args:
            prompt: what to draw.
            neighbors: at most `config.maximum_k`; none draws from the text alone.
            seeds: at least one.
            size: one of `sizes`.
            guidance: for the retrieval-conditioned stages.
            steps_factor: how many times its own steps each stage takes.

        Yields:
            One `StepDone` a step, then one `Drawn`.

        Raises:
            ValueError: the size is not one of `sizes`, there is no seed, there are too many neighbors, or a stage
                cannot follow the guidance.
        """
        if size not in self.sizes:
            raise ValueError(f"size: must be one of {', '.join(map(str, self.sizes))}, got {size}")
        if not seeds:
            raise ValueError("seeds: at least one is needed")
        if len(neighbors) > self.config.maximum_k:
            raise ValueError(f"neighbors: at most {self.config.maximum_k}, got {len(neighbors)}")
        self.check_guidance(guidance, size)
        yield from self._draw(prompt, neighbors, seeds, size, guidance, steps_factor)

    def _draw(
        self,
        prompt: str,
        neighbors: Sequence[ReferencePair],
        seeds: Sequence[int],
        size: int,
        guidance: GuidanceOptions,
        steps_factor: float = 1.0,
        brief: bool = False,
    ) -> Generator[StepDone | Drawn, None, None]:
        """Draws; `brief`ly with the first step alone of each stage whose steps are all compiled as one."""
        slots = _slots(len(neighbors), self.config)
        text = self._encode([prompt] * len(seeds))
        empty = self._encode([""] * len(seeds)) if self.config.dropped_text is DroppedText.EMPTY_PROMPT else None
        neighbor_text = self._encode([pair.caption for pair in neighbors] + [""] * (slots - len(neighbors)))
        neighbor_text = jax.tree.map(lambda a: jnp.tile(a, (len(seeds),) + (1,) * (a.ndim - 1)), neighbor_text)
        mask = jnp.tile(jnp.arange(slots) < len(neighbors), (len(seeds), 1))
        shown = side_by_side(neighbors) if self.config.side_by_side else neighbors
        placing = None
        if self.placer is not None and neighbors:
            placing = self.placer.placing([shown] * len(seeds), slots, text, neighbor_text, seeds)
        previous: Float[Array, "n height width 3"] | None = None
        for index, stage in enumerate(self._stages[: self.sizes.index(size) + 1]):
            images = None
            if stage.config.network.retrieval:
                images = jnp.tile(resized(shown, stage.config.size, slots), (len(seeds), 1, 1, 1, 1))
            keys = jnp.stack([stage_key(seed, index) for seed in seeds])
            placed = layers(placing, stage.config.size) if placing and stage.config.network.placed else None
            conditions = stage.conditions(text, images, neighbor_text, mask, previous, keys, empty, placed)
            guided = _guidance(stage.config, guidance)
            last = 1 if brief and guided.interval is None else None
            steps = stage.config.with_steps(steps_factor).steps
            for sampled in islice(stage.sample(conditions, guided, keys, steps_factor), last):
                previous = sampled.x.block_until_ready()  # JAX runs ahead: what is told as done must be
                x_0 = sampled.x_0

                def preview(x_0: Float[Array, "n height width 3"] = x_0) -> _Image:
                    return np.asarray(to_bytes(x_0[0]))

                yield StepDone(index, stage.config.size, sampled.step, steps, sampled.evaluations, preview)
            assert previous is not None  # a stage has at least one step
            # The next stage was trained on images of bytes.
            previous = to_float(to_bytes(previous))
        yield Drawn(np.asarray(to_bytes(jnp.asarray(previous))))

    def warm_up(self, batch_size: int = 1) -> None:
        """Compiles what a usual request needs, by a step of each stage: the default number of neighbors, and none.

        Args:
            batch_size: seeds that `draw` will be given.
        """
        pair = ReferencePair(np.zeros((8, 8, 3), np.uint8), "")
        for neighbors in ([pair] * self.config.default_k, []):
            for event in self._draw("", neighbors, [0] * batch_size, self.sizes[-1], GuidanceOptions(), brief=True):
                if isinstance(event, StepDone):
                    event.preview()

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
    """A stage's size over the previous one's; None for the first."""
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


def _guidance(stage: StageConfig, options: GuidanceOptions) -> Guidance:
    if not stage.network.retrieval:
        return stage.guidance
    changes = {name: value for name, value in vars(options).items() if value is not None}
    return stage.guidance.model_copy(update=changes)
