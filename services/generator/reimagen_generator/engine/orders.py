"""Operations on the device as data, so that a leader can send them to other hosts."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

import numpy as np
from flax.serialization import msgpack_restore, msgpack_serialize
from jaxtyping import Array, Int

from reimagen_generator.diffusion.guidance import GuidanceRows
from reimagen_generator.diffusion.inputs import Row
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.diffusion.sampling_state import RowSteps


@dataclass(frozen=True)
class BeginStage:
    """Compute what an image's next stage draws from, and its state before the first step."""

    number: int
    """Number of the image."""
    stage: int
    """Index of the stage."""
    slots: int
    """Number of neighbors for which the image has space."""
    row: Row | None
    """The image's inputs at its first stage; None at later stages, which use the same."""
    guidance: GuidanceRows
    samplers: Int[Array | np.ndarray, " rows"]
    """The sampler of the image, see `sampler_codes`."""


@dataclass(frozen=True)
class TakeStep:
    """Take one step of several images together. It changes all of them, or raises an error and changes none."""

    stage: int
    numbers: Sequence[int]
    """Numbers of the images; one may be repeated to fill a batch up."""
    steps: Sequence[RowSteps]
    """The step that each takes."""
    evaluations: int


@dataclass(frozen=True)
class Preview:
    """Return an image's prediction as bytes."""

    number: int


@dataclass(frozen=True)
class EndStage:
    """Keep an image for its next stage, or return its bytes."""

    number: int
    last: bool
    """Whether it is the image's last stage."""


@dataclass(frozen=True)
class SkipStages:
    """Make an image that stands before a later stage, for a measurement of that stage."""

    number: int
    stage: int
    slots: int
    row: Row


Order = BeginStage | TakeStep | Preview | EndStage | SkipStages

_CLASSES: Final = {
    each.__name__: each
    for each in (
        *(BeginStage, TakeStep, Preview, EndStage, SkipStages),
        *(GuidanceRows, Row, ReferencePair, RowSteps),
    )
}
_CLASS: Final = "class"


def encode(order: Order, forgotten: Sequence[int]) -> bytes:
    """Return an order as bytes.

    Args:
        order: The order.
        forgotten: Numbers of images whose states are no longer needed.
    """
    return msgpack_serialize({"order": _plain(order), "forgotten": list(forgotten)})


def decode(data: bytes) -> tuple[Order, list[int]]:
    """Return what `encode` was given."""
    message = msgpack_restore(data)
    order: Order = _restored(message["order"])
    return order, message["forgotten"]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {_CLASS: type(value).__name__} | {
            field.name: _plain(getattr(value, field.name)) for field in fields(value)
        }
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return np.asarray(value)


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        fields_ = {name: _restored(each) for name, each in value.items() if name != _CLASS}
        return _CLASSES[value[_CLASS]](**fields_)
    if isinstance(value, list):
        return [_restored(each) for each in value]
    return value
