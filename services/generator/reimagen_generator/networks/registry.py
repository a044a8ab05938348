"""From a network's configuration to the network."""

from flax import nnx

from reimagen_generator.config.networks import AnyNetworkConfig, EfficientUNetConfig, ImagenUNetConfig, UNetConfig
from reimagen_generator.networks.efficient_unet import EfficientUNet
from reimagen_generator.networks.imagen_unet import ImagenUNet
from reimagen_generator.networks.network import Network
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
