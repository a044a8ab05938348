"""What every network takes and gives; a network knows nothing of diffusion."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from reimagen_generator.config.networks import ComputeType, NetworkConfig
from reimagen_generator.networks.neighbors import Neighbors

IMAGE_CHANNELS = 3


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Text:
    """Encoded texts; a row whose mask is all false has no text."""

    tokens: Float[Array, "batch length channels"]
    mask: Bool[Array, "batch length"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LowResolution:
    """The smaller image, resized to this stage's size, and the augmentation level at which it was noised."""

    image: Float[Array, "batch height width 3"]
    augmentation: Float[Array, " batch"]


def at_time_zero(
    images: Float[Array, "batch neighbors height width 3"],
    low_resolution: Float[Array, "batch neighbors height width 3"] | None,
) -> tuple[Float[Array, "rows height width 3"], LowResolution | None]:
    """Neighbors as rows for the encoder; their smaller versions carry no noise."""
    flat = images.reshape(-1, *images.shape[2:])
    if low_resolution is None:
        return flat, None
    return flat, LowResolution(low_resolution.reshape(flat.shape), jnp.zeros(flat.shape[0]))


class Network(nnx.Module):
    """A network of one stage, of one of the kinds of `config/networks.py`."""

    config: NetworkConfig

    @abstractmethod
    def __call__(
        self,
        x: Float[Array, "batch height width 3"],
        time: Float[Array, " batch"],
        text: Text,
        neighbors: Neighbors | None = None,
        low_resolution: LowResolution | None = None,
    ) -> Float[Array, "batch height width out"]:
        """The prediction for noised images `x` at times in [0, 1]."""

    @abstractmethod
    def encode_neighbors(
        self,
        images: Float[Array, "batch neighbors height width 3"],
        text: Text,
        mask: Bool[Array, "batch neighbors"],
        low_resolution: Float[Array, "batch neighbors height width 3"] | None = None,
    ) -> Neighbors:
        """What of the neighbors is the same at every step, computed once an image.

        Args:
            images: the neighbors' images in [-1, 1].
            text: of batch × neighbors rows, the neighbors' own texts.
            mask: which of the neighbors are there.
            low_resolution: for a super-resolution network, the neighbors' smaller versions, resized.
        """


def in_compute_type(parameters: nnx.State[Any, Any], dtype: ComputeType) -> nnx.State[Any, Any]:
    """The parameters for drawing alone: matrices in the type that they are used in, half to hold and to read.

    Training keeps them in float32, where small steps count.
    """

    def cast(leaf: Any) -> Any:
        if leaf.ndim < 2 or leaf.dtype == jnp.dtype(dtype):
            return leaf
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf.update(dtype=jnp.dtype(dtype))  # type: ignore[no-untyped-call]
        return leaf.astype(jnp.dtype(dtype))

    cast_parameters: nnx.State[Any, Any] = jax.tree.map(cast, parameters)
    return cast_parameters


def parameter_count(network: nnx.Module) -> int:
    """Numbers that training changes."""
    return sum(int(leaf.size) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
