"""Construction of a network from its configuration."""

import jax
from flax import nnx
from jaxtyping import Array, Key

from reimagen_generator.config.networks import (
    AnyNetworkConfig,
    EfficientUNetConfig,
    FoldedResNetConfig,
    ImagenUNetConfig,
    UNetConfig,
)
from reimagen_generator.config.placement import PlacementConfig
from reimagen_generator.networks.efficient_unet import EfficientUNet
from reimagen_generator.networks.folded_resnet import FoldedResNet
from reimagen_generator.networks.imagen_unet import ImagenUNet
from reimagen_generator.networks.network import Network
from reimagen_generator.networks.placement_network import PlacementNetwork
from reimagen_generator.networks.unet import UNet


def build_network(config: AnyNetworkConfig, rngs: nnx.Rngs) -> Network:
    """Return a network with random weights."""
    match config:
        case UNetConfig():
            return UNet(config, rngs)
        case EfficientUNetConfig():
            return EfficientUNet(config, rngs)
        case ImagenUNetConfig():
            return ImagenUNet(config, rngs)
        case FoldedResNetConfig():
            return FoldedResNet(config, rngs)


class _ConstantKey(nnx.Rngs):
    """The same key for every parameter, for shapes only, where no numbers are drawn.

    Tracing the counter of `nnx.Rngs` would take time quadratic in the number of parameters.
    """

    def __init__(self) -> None:
        """Create the stream without seeds."""

    def params(self) -> Key[Array, ""]:
        return jax.random.key(0)


def network_shapes(config: AnyNetworkConfig) -> Network:
    """Return a network whose parameters are only shapes: nothing is drawn or allocated, at any size."""
    network: Network = nnx.eval_shape(lambda: build_network(config, _ConstantKey()))
    return network


def placement_shapes(config: PlacementConfig) -> PlacementNetwork:
    """Return a placement network whose parameters are only shapes."""
    network: PlacementNetwork = nnx.eval_shape(lambda: PlacementNetwork(config, _ConstantKey()))
    return network
