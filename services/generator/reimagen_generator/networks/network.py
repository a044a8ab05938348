"""The interface of all networks, which does not depend on the diffusion process."""

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
    """The low-resolution image, resized to this stage's size, and its augmentation level."""

    image: Float[Array, "batch height width 3"]
    augmentation: Float[Array, " batch"]


def at_time_zero(
    images: Float[Array, "batch neighbors height width 3"],
    low_resolution: Float[Array, "batch neighbors height width 3"] | None,
) -> tuple[Float[Array, "rows height width 3"], LowResolution | None]:
    """Return the neighbors as rows for the encoder; their low-resolution images carry no noise."""
    flat = images.reshape(-1, *images.shape[2:])
    if low_resolution is None:
        return flat, None
    return flat, LowResolution(low_resolution.reshape(flat.shape), jnp.zeros(flat.shape[0]))


class Network(nnx.Module):
    """The network of one stage, of one of the kinds in `config/networks.py`."""

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
        """Return the prediction for noised images `x` at times in [0, 1]."""

    @abstractmethod
    def encode_neighbors(
        self,
        images: Float[Array, "batch neighbors height width 3"],
        text: Text,
        mask: Bool[Array, "batch neighbors"],
        low_resolution: Float[Array, "batch neighbors height width 3"] | None = None,
    ) -> Neighbors:
        """Return the features of the neighbors that are the same at every step, computed once per image.

        Args:
            images: The neighbors' images in [-1, 1].
            text: The neighbors' captions, batch × neighbors rows.
            mask: Which of the neighbors exist.
            low_resolution: The neighbors' low-resolution images, resized, for a super-resolution network.
        """


def in_compute_type(parameters: nnx.State[Any, Any], dtype: ComputeType) -> nnx.State[Any, Any]:
    """Return the parameters for sampling: matrices in the type of the computation, at half the memory and traffic.

    Training stores them in float32, since its small steps need the precision.
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
    """Return the number of trainable parameters."""
    return sum(int(leaf.size) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
