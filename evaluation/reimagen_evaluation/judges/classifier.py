"""A small network that classifies the entity and the scene of an image.

It is the judge for a knowledge base of which any number of true images can be made for every entity, such as the
demonstration's. The generator that it judges never uses it.
"""

import json
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reimagen_common.errors import first_fault
from reimagen_evaluation.features.loading import load_network
from reimagen_evaluation.features.network import Features, Images
from reimagen_evaluation.judges.judge import Pixels
from reimagen_evaluation.judges.squares import to_side
from reimagen_generator.diffusion.resize import to_float
from reimagen_generator.networks.layers import fold
from reimagen_generator.weights.checkpoint import named
from reimagen_generator.weights.shards import TensorSpec, write_tensors

CONFIG_FILE = "judge.json"
WEIGHTS_FILE = "judge.safetensors"
_BATCH = 64

_Map = Float[Array, "batch height width channels"]


class ClassifierConfig(BaseModel):
    """The network, and the classes that it distinguishes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(64, ge=16, multiple_of=16, description="Side of the input images, in pixels.")
    patch: int = Field(4, ge=1, description="Side of the squares of pixels that become the channels of one position.")
    widths: tuple[int, ...] = Field(
        (64, 128, 192),
        min_length=1,
        description="Channels of each level; each level has half the side of the one before.",
    )
    entities: tuple[str, ...] = Field(description="Entities that an image can show; an item's entity is one of them.")
    scenes: tuple[str, ...] = Field(description="Scenes that an image can show; an item's scene is one of them.")
    facts: dict[str, Any] = Field({}, description="How the network was trained, and its measured accuracy.")


class Convolution(nnx.Module):
    """A 3 × 3 convolution and a batch norm."""

    def __init__(self, channels_in: int, channels_out: int, rngs: nnx.Rngs, *, stride: int = 1) -> None:
        self.conv = nnx.Conv(channels_in, channels_out, (3, 3), strides=stride, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(channels_out, momentum=0.95, rngs=rngs)

    def __call__(self, x: _Map, *, training: bool) -> _Map:
        """Return the normalized map."""
        normed: _Map = self.norm(self.conv(x), use_running_average=not training)
        return normed


class ResidualBlock(nnx.Module):
    """Two convolutions with a skip connection."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        self.first = Convolution(channels, channels, rngs)
        self.second = Convolution(channels, channels, rngs)

    def __call__(self, x: _Map, *, training: bool) -> _Map:
        """Return the map after the block."""
        h = nnx.relu(self.first(x, training=training))
        return nnx.relu(x + self.second(h, training=training))


class CosineClassifier(nnx.Module):
    """Logits from the angle between an image's features and a direction for each class."""

    def __init__(self, channels: int, classes: int, rngs: nnx.Rngs) -> None:
        # Only the angles of the directions matter: short vectors turn faster in training.
        self.directions = nnx.Param(0.2 * jax.random.normal(rngs.params(), (channels, classes)))
        self.sharpness = nnx.Param(jnp.full(1, 3.0))

    def __call__(self, features: Float[Array, "batch channels"]) -> Float[Array, "batch classes"]:
        """Return the logits, each at most e^sharpness."""
        return jnp.exp(self.sharpness[...]) * (_unit(features, -1) @ _unit(self.directions[...], 0))


def _unit(vectors: Float[Array, "a b"], axis: int) -> Float[Array, "a b"]:
    return vectors * jax.lax.rsqrt(jnp.square(vectors).sum(axis, keepdims=True) + 1e-6)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Logits:
    """The network's logits for images, and the features that they are computed from."""

    entity: Float[Array, "batch entities"]
    scene: Float[Array, "batch scenes"]
    features: Float[Array, "batch features"]


class Classifier(nnx.Module):
    """Convolutions of stride 2, a residual block, then the normalized mean and maximum of the last map."""

    def __init__(self, config: ClassifierConfig, rngs: nnx.Rngs) -> None:
        self.patch = config.patch
        widths = (3 * config.patch**2, *config.widths)
        self.convolutions = nnx.List(
            [
                Convolution(before, width, rngs, stride=2 if index else 1)
                for index, (before, width) in enumerate(pairwise(widths))
            ]
        )
        self.block = ResidualBlock(widths[-1], rngs)
        self.neck = nnx.BatchNorm(2 * widths[-1], momentum=0.95, rngs=rngs)
        self.entity = CosineClassifier(2 * widths[-1], len(config.entities), rngs)
        self.scene = CosineClassifier(2 * widths[-1], len(config.scenes), rngs)

    def __call__(self, images: UInt8[Array, "batch side side 3"], *, training: bool = False) -> Logits:
        """Return the logits of images of the network's side.

        With `training`, batch norms use the batch's statistics and update their running averages.
        """
        h = fold(to_float(images), self.patch)
        for convolution in self.convolutions:
            h = nnx.relu(convolution(h, training=training))
        h = self.block(h, training=training)
        pooled = jnp.concatenate([h.mean(axis=(1, 2)), h.max(axis=(1, 2))], axis=-1)
        # The norm centers the features: after the ReLU they are not negative, and would all point the same way.
        features = self.neck(pooled, use_running_average=not training)
        return Logits(self.entity(features), self.scene(features), features)


def _first(rows: Float[np.ndarray, "rows channels"], count: int) -> Float[np.ndarray, "count channels"]:
    return rows[:count]


@dataclass(frozen=True)
class Verdict:
    """The most probable entity and scene of an image."""

    entity: str
    entity_probability: float
    scene: str
    scene_probability: float


class TrainedClassifier:
    """A classifier with stored weights; as a feature network it returns the input of its last layer."""

    def __init__(self, config: ClassifierConfig, network: Classifier) -> None:
        self.config = config
        self.name = "judge"
        self.side = config.side
        self.channels = 2 * config.widths[-1]
        self._graph, self._state = nnx.split(network)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `judge.json` and `judge.safetensors`.

        Raises:
            ValueError: a file is missing or invalid.
        """
        path = folder / CONFIG_FILE
        try:
            config = ClassifierConfig.model_validate_json(path.read_text())
        except OSError as error:
            raise ValueError(f"judge: cannot read {path}: {error}") from error
        except ValidationError as error:
            raise ValueError(f"judge: {path} is not a judge's configuration: {first_fault(error)}") from error
        return cls(config, load_network(lambda: Classifier(config, nnx.Rngs(0)), folder / WEIGHTS_FILE))

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write both files: the weights in float16, and the configuration with the facts about them."""
        folder.mkdir(parents=True, exist_ok=True)
        parameters = named(self._state)
        tensors = {name: TensorSpec(value.shape, partial(np.asarray, value[...])) for name, value in parameters.items()}
        write_tensors(folder / WEIGHTS_FILE, tensors, np.dtype(np.float16), {})
        config = self.config.model_copy(update={"facts": facts})
        (folder / CONFIG_FILE).write_text(json.dumps(config.model_dump(mode="json"), indent=1) + "\n")

    def network(self) -> Classifier:
        """Return a copy of the network, whose arrays a training may overwrite."""
        network: Classifier = nnx.merge(self._graph, jax.tree.map(jnp.copy, self._state))
        return network

    def logits(self, images: UInt8[np.ndarray, "images side side 3"]) -> Logits:
        """Return the logits of images of the network's side, as numpy arrays."""
        batches = []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            # The batch is filled up so that only one shape is compiled.
            filled = np.concatenate([batch, np.zeros((_BATCH - len(batch), *batch.shape[1:]), np.uint8)])
            result = jax.device_get(self._compiled(self._state, filled))
            batches.append(jax.tree.map(partial(_first, count=len(batch)), result))
        if not batches:
            raise ValueError("images: must be at least one, got none")
        logits: Logits = jax.tree.map(lambda *rows: np.concatenate(rows), *batches)
        return logits

    def features(self, images: Images) -> Features:
        """Return the normalized means and maxima of the last map, for images of any size."""
        return np.asarray(self.logits(to_side(list(images), self.side)).features)

    def verdicts(self, images: list[Pixels]) -> list[Verdict]:
        """Return the most probable entity and scene of each image; images may have any sizes."""
        logits = self.logits(to_side(images, self.side))
        entity, scene = (np.asarray(jax.nn.softmax(rows)) for rows in (logits.entity, logits.scene))
        names, scenes = self.config.entities, self.config.scenes
        return [
            Verdict(names[e.argmax()], float(e.max()), scenes[s.argmax()], float(s.max()))
            for e, s in zip(entity, scene, strict=True)
        ]

    @partial(jax.jit, static_argnums=0)
    def _compiled(self, state: nnx.State[Any, Any], images: UInt8[Array, "batch side side 3"]) -> Logits:
        network: Classifier = nnx.merge(self._graph, state)
        return network(images)
