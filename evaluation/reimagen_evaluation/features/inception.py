"""InceptionV3 of the Fréchet inception distance: pt_inception-2015-12-05, with torch-fidelity's tensor names.

This is TensorFlow's graph of 2015, not the network of the paper: average pools exclude the padding from the mean, and
the last block uses a max pool.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from reimagen_evaluation.features.loading import load_network
from reimagen_evaluation.features.network import Features, Images
from reimagen_generator.weights.checkpoint import named
from reimagen_generator.weights.importers.names import CONV, VECTOR, Source

SIDE = 299
CHANNELS = 2048

_Map = Float[Array, "batch height width channels"]
_max_pool = partial(nnx.max_pool, window_shape=(3, 3), strides=(2, 2), padding="VALID")
_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
_BLOCKS = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")


class Convolution(nnx.Module):
    """A convolution, a batch norm with the statistics from training, and a ReLU."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        window: tuple[int, int],
        rngs: nnx.Rngs,
        *,
        stride: int = 1,
        padding: str = "SAME",
    ) -> None:
        self.conv = nnx.Conv(
            channels_in, channels_out, window, strides=stride, padding=padding, use_bias=False, rngs=rngs
        )
        self.bn = nnx.BatchNorm(channels_out, use_running_average=True, epsilon=1e-3, rngs=rngs)

    def __call__(self, x: _Map) -> _Map:
        """Return the map after all three."""
        return nnx.relu(self.bn(self.conv(x)))


class Chain(nnx.Module):
    """A sequence of convolutions, by their names in the checkpoint."""

    def __init__(
        self, channels: int, layers: dict[str, tuple[int, tuple[int, int]]], rngs: nnx.Rngs, *, shrinks: bool = False
    ) -> None:
        """Build the layers.

        Args:
            channels: number of input channels.
            layers: output channels and window of each convolution, by name.
            rngs: source of random initial weights.
            shrinks: whether the last convolution has stride 2 and no padding.
        """
        self.names = tuple(layers)
        for name, (width, window) in layers.items():
            last = shrinks and name == self.names[-1]
            layer = Convolution(
                channels, width, window, rngs, stride=2 if last else 1, padding="VALID" if last else "SAME"
            )
            setattr(self, name, layer)
            channels = width

    def __call__(self, x: _Map) -> _Map:
        """Return the map after all convolutions."""
        for name in self.names:
            x = getattr(self, name)(x)
        return x


class Block(nnx.Module):
    """Parallel chains and a pooled branch: InceptionA, B, C and D."""

    def __init__(
        self,
        channels: int,
        chains: list[dict[str, tuple[int, tuple[int, int]]]],
        pooled: int | None,
        rngs: nnx.Rngs,
    ) -> None:
        """Build the branches.

        Args:
            channels: number of input channels.
            chains: convolutions of each branch.
            pooled: channels of the pooled branch's convolution; None for a block that halves the side, whose pooled
                branch is only a max pool.
            rngs: source of random initial weights.
        """
        self.chains = nnx.List([Chain(channels, layers, rngs, shrinks=pooled is None) for layers in chains])
        self.branch_pool = None if pooled is None else Convolution(channels, pooled, (1, 1), rngs)

    def __call__(self, x: _Map) -> _Map:
        """Return the outputs of all branches, concatenated in order."""
        pooled = _max_pool(x) if self.branch_pool is None else self.branch_pool(_average_pool(x))
        return jnp.concatenate([*(chain(x) for chain in self.chains), pooled], axis=-1)


class WideBlock(nnx.Module):
    """InceptionE: branches that end in two parallel convolutions, one along rows and one along columns."""

    def __init__(self, channels: int, rngs: nnx.Rngs, *, max_pooled: bool) -> None:
        def end() -> tuple[Convolution, Convolution]:
            return Convolution(384, 384, (1, 3), rngs), Convolution(384, 384, (3, 1), rngs)

        self.max_pooled = max_pooled
        self.branch1x1 = Convolution(channels, 320, (1, 1), rngs)
        self.branch3x3_1 = Convolution(channels, 384, (1, 1), rngs)
        self.branch3x3_2a, self.branch3x3_2b = end()
        self.branch3x3dbl_1 = Convolution(channels, 448, (1, 1), rngs)
        self.branch3x3dbl_2 = Convolution(448, 384, (3, 3), rngs)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = end()
        self.branch_pool = Convolution(channels, 192, (1, 1), rngs)

    def __call__(self, x: _Map) -> _Map:
        """Return the outputs of all branches, concatenated in order."""
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = _max_pool(x, strides=(1, 1), padding="SAME") if self.max_pooled else _average_pool(x)
        branches = [self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single)]
        branches += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(pooled)]
        return jnp.concatenate(branches, axis=-1)


def _average_pool(x: _Map) -> _Map:
    pooled: _Map = nnx.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)  # type: ignore[no-untyped-call]
    return pooled


def _block_a(channels: int, pooled: int, rngs: nnx.Rngs) -> Block:
    chains = [
        {"branch1x1": (64, (1, 1))},
        {"branch5x5_1": (48, (1, 1)), "branch5x5_2": (64, (5, 5))},
        {"branch3x3dbl_1": (64, (1, 1)), "branch3x3dbl_2": (96, (3, 3)), "branch3x3dbl_3": (96, (3, 3))},
    ]
    return Block(channels, chains, pooled, rngs)


def _block_b(channels: int, rngs: nnx.Rngs) -> Block:
    double = {"branch3x3dbl_1": (64, (1, 1)), "branch3x3dbl_2": (96, (3, 3)), "branch3x3dbl_3": (96, (3, 3))}
    return Block(channels, [{"branch3x3": (384, (3, 3))}, double], None, rngs)


def _block_c(inner: int, rngs: nnx.Rngs) -> Block:
    row, column = (1, 7), (7, 1)
    chains = [
        {"branch1x1": (192, (1, 1))},
        {"branch7x7_1": (inner, (1, 1)), "branch7x7_2": (inner, row), "branch7x7_3": (192, column)},
        {
            "branch7x7dbl_1": (inner, (1, 1)),
            "branch7x7dbl_2": (inner, column),
            "branch7x7dbl_3": (inner, row),
            "branch7x7dbl_4": (inner, column),
            "branch7x7dbl_5": (192, row),
        },
    ]
    return Block(768, chains, 192, rngs)


def _block_d(rngs: nnx.Rngs) -> Block:
    chains = [
        {"branch3x3_1": (192, (1, 1)), "branch3x3_2": (320, (3, 3))},
        {
            "branch7x7x3_1": (192, (1, 1)),
            "branch7x7x3_2": (192, (1, 7)),
            "branch7x7x3_3": (192, (7, 1)),
            "branch7x7x3_4": (192, (3, 3)),
        },
    ]
    return Block(768, chains, None, rngs)


class InceptionV3(nnx.Module):
    """InceptionV3 from bytes to the mean of the last map."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = nnx.List(
            [
                Convolution(3, 32, (3, 3), rngs, stride=2, padding="VALID"),
                Convolution(32, 32, (3, 3), rngs, padding="VALID"),
                Convolution(32, 64, (3, 3), rngs),
                Convolution(64, 80, (1, 1), rngs),
                Convolution(80, 192, (3, 3), rngs, padding="VALID"),
            ]
        )
        self.blocks = nnx.List(
            [
                *(_block_a(channels, pooled, rngs) for channels, pooled in ((192, 32), (256, 64), (288, 64))),
                _block_b(288, rngs),
                *(_block_c(inner, rngs) for inner in (128, 160, 160, 192)),
                _block_d(rngs),
                WideBlock(1280, rngs, max_pooled=False),
                WideBlock(2048, rngs, max_pooled=True),
            ]
        )

    def __call__(self, images: UInt8[Array, "batch height width 3"]) -> Float[Array, "batch 2048"]:
        """Return the features of images of any size, which are resized to 299 × 299 pixels first."""
        x = (resized(images.astype(jnp.float32), SIDE) - 128) / 128
        for index, layer in enumerate(self.stem):
            x = layer(x)
            if index in (2, 4):
                x = _max_pool(x)
        for block in self.blocks:
            x = block(x)
        return x.mean(axis=(1, 2))


def resized(x: Float[Array, "batch height width 3"], side: int) -> Float[Array, "batch side side 3"]:
    """Resize as TensorFlow 1 does by default: bilinear, aligned at the corner, without antialiasing."""
    for axis in (2, 1):
        length = x.shape[axis]
        coordinates = np.arange(side, dtype=np.float32) * np.float32(length / side)
        low = coordinates.astype(np.int32)
        share = (coordinates - low).reshape([-1 if a == axis else 1 for a in range(4)])
        before, after = jnp.take(x, low, axis), jnp.take(x, np.minimum(low + 1, length - 1), axis)
        x = before + (after - before) * share
    return x


class InceptionFeatures:
    """FID's feature network with stored weights."""

    name = "inception-v3"
    side = SIDE
    channels = CHANNELS

    def __init__(self, network: InceptionV3) -> None:
        self._graph, self._state = nnx.split(network)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a safetensors file with the tensor names of torch-fidelity and pytorch-fid.

        Raises:
            ValueError: it cannot be read, or a tensor is missing, left over or of another shape; the message names it.
        """
        return cls(load_network(lambda: InceptionV3(nnx.Rngs(0)), path, _sources, _unused))

    def features(self, images: Images) -> Features:
        """Return the 2,048 features of each image."""
        return np.asarray(self._compiled(self._state, images))

    @partial(jax.jit, static_argnums=0)
    def _compiled(
        self, state: nnx.State[Any, Any], images: UInt8[Array, "batch height width 3"]
    ) -> Float[Array, "batch 2048"]:
        network: InceptionV3 = nnx.merge(self._graph, state)
        return network(images)


def _unused(stored: Collection[str]) -> set[str]:
    """Return the stored names that features do not need: the classifier layer, and the counters of batch norms."""
    return {name for name in stored if name.startswith("fc.") or name.endswith(".num_batches_tracked")}


def _sources(_: Collection[str]) -> dict[str, Source]:
    network = nnx.eval_shape(lambda: InceptionV3(nnx.Rngs(0)))
    return {name: _source(name) for name in named(nnx.state(network))}


def _source(ours: str) -> Source:
    """Return the checkpoint's tensor for a parameter.

    `stem.0.bn.mean` is `Conv2d_1a_3x3.bn.running_mean`; `blocks.0.chains.1.branch5x5_1` is `Mixed_5b.branch5x5_1`.
    """
    kind, index, *layer, part, number = ours.split(".")
    block = _STEM[int(index)] if kind == "stem" else f"Mixed_{_BLOCKS[int(index)]}"
    theirs = [block, *(layer[2:] if layer[:1] == ["chains"] else layer), part]
    if part == "conv":
        return Source((".".join([*theirs, "weight"]),), CONV)
    return Source((".".join([*theirs, _NORM[number]]),), VECTOR)
