"""Conversion of the tensors of PyTorch layers to ours.

PyTorch stores a linear layer as (out, in) and a convolution as (out, in, height, width); flax as (in, out) and
(height, width, in, out). Several PyTorch linear layers on one input are concatenated to one of ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]
_Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """A kind of tensor: the shape of the PyTorch tensor, and its conversion to ours."""

    source_shape: Callable[[_Shape], _Shape]
    """The shape of the PyTorch tensor for a given shape of ours."""
    convert: Callable[[_Array], _Array]
    """The conversion of the PyTorch tensor to ours."""


VECTOR = Layout(lambda shape: shape, lambda a: a)
ROW = Layout(lambda shape: (1, *shape), lambda a: a[0])
LINEAR = Layout(lambda shape: shape[::-1], lambda a: a.T)
CONV = Layout(lambda shape: (shape[3], shape[2], *shape[:2]), lambda a: a.transpose(2, 3, 1, 0))
CONV_1X1 = Layout(lambda shape: (*shape[::-1], 1, 1), lambda a: a[:, :, 0, 0].T)
COSINES_FIRST = Layout(lambda shape: shape[::-1], lambda a: np.roll(a.T, a.shape[1] // 2, axis=0))
"""A linear layer on sines and cosines; PyTorch models have the cosines first."""


@dataclass(frozen=True)
class Source:
    """The source of one of our tensors: PyTorch tensors of one layout, concatenated along our last axis."""

    names: tuple[str, ...]
    layout: Layout

    def shapes(self, ours: _Shape) -> dict[str, _Shape]:
        """Return the shape that each PyTorch tensor must have for our tensor to have the shape `ours`."""
        part = (*ours[:-1], ours[-1] // len(self.names))
        return {name: self.layout.source_shape(part) for name in self.names}

    def make(self, read: Callable[[str], _Array]) -> _Array:
        """Return our tensor."""
        parts = [self.layout.convert(read(name)) for name in self.names]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def layer(ours: str, *theirs: str, weight: Layout = LINEAR) -> dict[str, Source]:
    """Return the sources of a linear layer or convolution with its bias."""
    return {
        f"{ours}.kernel": Source(tuple(f"{name}.weight" for name in theirs), weight),
        f"{ours}.bias": Source(tuple(f"{name}.bias" for name in theirs), VECTOR),
    }


def norm(ours: str, theirs: str) -> dict[str, Source]:
    """Return the sources of a norm's scale and bias."""
    return {
        f"{ours}.scale": Source((f"{theirs}.weight",), VECTOR),
        f"{ours}.bias": Source((f"{theirs}.bias",), VECTOR),
    }


def check(
    where: str,
    sources: Mapping[str, Source],
    ours: Mapping[str, _Shape],
    theirs: Mapping[str, _Shape],
    unused: set[str],
) -> None:
    """Compare names and shapes before anything is read.

    Args:
        where: The checkpoint, for the error message.
        sources: The source of each of our tensors.
        ours: The shapes of our tensors.
        theirs: The shapes in the checkpoint.
        unused: Tensors in the checkpoint that have no effect and no counterpart in ours.

    Raises:
        ValueError: A tensor is missing, unknown or of another shape, with its name.
    """
    assert sources.keys() == ours.keys(), sources.keys() ^ ours.keys()
    expected = {
        name: shape for target, source in sources.items() for name, shape in source.shapes(ours[target]).items()
    }
    for name in sorted((expected.keys() | unused) - theirs.keys()):
        raise ValueError(f"weights: {where} lacks tensor {name}")
    for name in sorted(theirs.keys() - expected.keys() - unused):
        raise ValueError(f"weights: {where} has an unknown tensor {name}")
    for name, shape in expected.items():
        if theirs[name] != shape:
            raise ValueError(f"weights: {where}: {name} has shape {theirs[name]}, expected {shape}")
