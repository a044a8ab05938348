"""From a network's configuration to the network."""

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
    """A network of random weights."""
    match config:
        case UNetConfig():
            return UNet(config, rngs)
        case EfficientUNetConfig():
            return EfficientUNet(config, rngs)
        case ImagenUNetConfig():
            return ImagenUNet(config, rngs)
        case FoldedResNetConfig():
            return FoldedResNet(config, rngs)


class _OneKey(nnx.Rngs):
    """Always the same key, for who wants no numbers: tracing a counter takes time quadratic in the parameters."""

    def __init__(self) -> None:
        """Takes no seeds."""

    def params(self) -> Key[Array, ""]:
        return jax.random.key(0)


def network_shapes(config: AnyNetworkConfig) -> Network:
    """A network whose parameters are shapes alone: nothing is drawn or allocated, whatever its size."""
    network: Network = nnx.eval_shape(lambda: build_network(config, _OneKey()))
    return network


def placement_shapes(config: PlacementConfig) -> PlacementNetwork:
    """Return a placement network whose parameters are shapes alone."""
    network: PlacementNetwork = nnx.eval_shape(lambda: PlacementNetwork(config, _OneKey()))
    return network
