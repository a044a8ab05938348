"""A small network that tells which entity of a list an image shows, and in which scene of another.

It is the judge of a knowledge base whose every entity can be had in any number of true images, such as the
demonstration's, and no part of what it judges.
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
    """The network, and what it tells apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int = Field(64, ge=16, multiple_of=16, description="Of the images that it looks at, in pixels.")
    patch: int = Field(4, ge=1, description="Side of the squares of pixels that become the channels of one position.")
    widths: tuple[int, ...] = Field((64, 128, 192), min_length=1, description="Channels, each at half the side before.")
    entities: tuple[str, ...] = Field(description="What an image can show; an item's entity is one of them.")
    scenes: tuple[str, ...] = Field(description="Where; an item's scene is one of them.")
    facts: dict[str, Any] = Field({}, description="How it was trained, and how often it is right, as measured.")


class Convolution(nnx.Module):
    """A 3 × 3 convolution and a batch norm."""

    def __init__(self, channels_in: int, channels_out: int, rngs: nnx.Rngs, *, stride: int = 1) -> None:
        self.conv = nnx.Conv(channels_in, channels_out, (3, 3), strides=stride, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(channels_out, momentum=0.95, rngs=rngs)

    def __call__(self, x: _Map, *, training: bool) -> _Map:
        """The normalized map."""
        normed: _Map = self.norm(self.conv(x), use_running_average=not training)
        return normed


class ResidualBlock(nnx.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        self.first = Convolution(channels, channels, rngs)
        self.second = Convolution(channels, channels, rngs)

    def __call__(self, x: _Map, *, training: bool) -> _Map:
        """One block."""
        h = nnx.relu(self.first(x, training=training))
        return nnx.relu(x + self.second(h, training=training))


class CosineClassifier(nnx.Module):
    """Logits by the angle between an image's features and a direction for each class."""

    def __init__(self, channels: int, classes: int, rngs: nnx.Rngs) -> None:
        # Only their angles count: short ones turn faster.
        self.directions = nnx.Param(0.2 * jax.random.normal(rngs.params(), (channels, classes)))
        self.sharpness = nnx.Param(jnp.full(1, 3.0))

    def __call__(self, features: Float[Array, "batch channels"]) -> Float[Array, "batch classes"]:
        """The logits, each at most e^sharpness."""
        return jnp.exp(self.sharpness[...]) * (_unit(features, -1) @ _unit(self.directions[...], 0))


def _unit(vectors: Float[Array, "a b"], axis: int) -> Float[Array, "a b"]:
    return vectors * jax.lax.rsqrt(jnp.square(vectors).sum(axis, keepdims=True) + 1e-6)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Logits:
    """What the network says of images, and the features that it says it by."""

    entity: Float[Array, "batch entities"]
    scene: Float[Array, "batch scenes"]
    features: Float[Array, "batch features"]


class Classifier(nnx.Module):
    """Convolutions of stride 2, a residual block, then the mean and the maximum over the last map, normalized."""

    def __init__(self, config: ClassifierConfig, rngs: nnx.Rngs) -> None:
        self.patch = config.patch
        widths = (3 * config.patch**2, *config.widths)
        self.convolutions = nnx.List(
            [
                Convolution(before, width, rngs, stride=2 if place else 1)
                for place, (before, width) in enumerate(pairwise(widths))
            ]
        )
        self.block = ResidualBlock(widths[-1], rngs)
        self.neck = nnx.BatchNorm(2 * widths[-1], momentum=0.95, rngs=rngs)
        self.entity = CosineClassifier(2 * widths[-1], len(config.entities), rngs)
        self.scene = CosineClassifier(2 * widths[-1], len(config.scenes), rngs)

    def __call__(self, images: UInt8[Array, "batch side side 3"], *, training: bool = False) -> Logits:
        """Of images of the network's side; `training` for norms by the batch's own statistics, which are noted."""
        h = fold(to_float(images), self.patch)
        for convolution in self.convolutions:
            h = nnx.relu(convolution(h, training=training))
        h = self.block(h, training=training)
        pooled = jnp.concatenate([h.mean(axis=(1, 2)), h.max(axis=(1, 2))], axis=-1)
        # Centered: what is never negative would all point one way.
        features = self.neck(pooled, use_running_average=not training)
        return Logits(self.entity(features), self.scene(features), features)


def _first(rows: Float[np.ndarray, "rows channels"], count: int) -> Float[np.ndarray, "count channels"]:
    return rows[:count]


@dataclass(frozen=True)
class Verdict:
    """What an image shows, most probably."""

    entity: str
    entity_probability: float
    scene: str
    scene_probability: float


class TrainedClassifier:
    """A classifier of stored weights; a feature network by what it has before its last layer."""

    def __init__(self, config: ClassifierConfig, network: Classifier) -> None:
        self.config = config
        self.name = "judge"
        self.side = config.side
        self.channels = 2 * config.widths[-1]
        self._graph, self._state = nnx.split(network)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads `judge.json` and `judge.safetensors`.

        Raises:
            ValueError: a file is missing or is not what it should be.
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
        """Writes both files, the weights in float16, with what is to be known of them."""
        folder.mkdir(parents=True, exist_ok=True)
        parameters = named(self._state)
        tensors = {name: TensorSpec(value.shape, partial(np.asarray, value[...])) for name, value in parameters.items()}
        write_tensors(folder / WEIGHTS_FILE, tensors, np.dtype(np.float16), {})
        config = self.config.model_copy(update={"facts": facts})
        (folder / CONFIG_FILE).write_text(json.dumps(config.model_dump(mode="json"), indent=1) + "\n")

    def logits(self, images: UInt8[np.ndarray, "images side side 3"]) -> Logits:
        """Of images of the network's side, as numpy arrays."""
        batches = []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            # Filled up, so that one shape is compiled.
            filled = np.concatenate([batch, np.zeros((_BATCH - len(batch), *batch.shape[1:]), np.uint8)])
            told = jax.device_get(self._compiled(self._state, filled))
            batches.append(jax.tree.map(partial(_first, count=len(batch)), told))
        if not batches:
            raise ValueError("images: there are none")
        logits: Logits = jax.tree.map(lambda *rows: np.concatenate(rows), *batches)
        return logits

    def features(self, images: Images) -> Features:
        """The means and maxima over the last map, of images of any size."""
        return np.asarray(self.logits(to_side(list(images), self.side)).features)

    def verdicts(self, images: list[Pixels]) -> list[Verdict]:
        """What each image shows, of any sizes."""
        logits = self.logits(to_side(images, self.side))
        entity, scene = (np.asarray(jax.nn.softmax(rows)) for rows in (logits.entity, logits.scene))
        names, places = self.config.entities, self.config.scenes
        return [
            Verdict(names[e.argmax()], float(e.max()), places[s.argmax()], float(s.max()))
            for e, s in zip(entity, scene, strict=True)
        ]

    @partial(jax.jit, static_argnums=0)
    def _compiled(self, state: nnx.State[Any, Any], images: UInt8[Array, "batch side side 3"]) -> Logits:
        network: Classifier = nnx.merge(self._graph, state)
        return network(images)
