"""How the tensors of PyTorch layers become ours.

PyTorch keeps a linear layer as (out, in) and a convolution as (out, in, height, width); flax as (in, out) and
(height, width, in, out). Several of their linear layers on one input are one of ours, side by side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]
_Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """A kind of tensor: the shape that theirs must have, and theirs made ours."""

    theirs: Callable[[_Shape], _Shape]
    """From our shape."""
    ours: Callable[[_Array], _Array]


VECTOR = Layout(lambda shape: shape, lambda a: a)
ROW = Layout(lambda shape: (1, *shape), lambda a: a[0])
LINEAR = Layout(lambda shape: shape[::-1], lambda a: a.T)
CONV = Layout(lambda shape: (shape[3], shape[2], *shape[:2]), lambda a: a.transpose(2, 3, 1, 0))
CONV_1X1 = Layout(lambda shape: (*shape[::-1], 1, 1), lambda a: a[:, :, 0, 0].T)
COSINES_FIRST = Layout(lambda shape: shape[::-1], lambda a: np.roll(a.T, a.shape[1] // 2, axis=0))
"""A linear layer on sines and cosines, which they hand over with the cosines first."""


@dataclass(frozen=True)
class Source:
    """What one of our tensors is made of: theirs of one layout, side by side along our last axis."""

    names: tuple[str, ...]
    layout: Layout

    def shapes(self, ours: _Shape) -> dict[str, _Shape]:
        """The shape that each of theirs must have for ours to have `ours`."""
        share = (*ours[:-1], ours[-1] // len(self.names))
        return {name: self.layout.theirs(share) for name in self.names}

    def make(self, read: Callable[[str], _Array]) -> _Array:
        """Ours."""
        parts = [self.layout.ours(read(name)) for name in self.names]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def layer(ours: str, *theirs: str, weight: Layout = LINEAR) -> dict[str, Source]:
    """A linear layer or convolution with its bias."""
    return {
        f"{ours}.kernel": Source(tuple(f"{name}.weight" for name in theirs), weight),
        f"{ours}.bias": Source(tuple(f"{name}.bias" for name in theirs), VECTOR),
    }


def norm(ours: str, theirs: str) -> dict[str, Source]:
    """A norm's scale and bias."""
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
    """Compares names and shapes before anything is read.

    Args:
        where: the checkpoint, for the error.
        sources: what each of our tensors is made of.
        ours: the shapes of our tensors.
        theirs: the shapes in the checkpoint.
        unused: tensors of theirs that change nothing, and have no place in ours.

    Raises:
        ValueError: a tensor is missing, left over or of another shape, by its name.
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
