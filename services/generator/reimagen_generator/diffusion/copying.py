"""Copying from canvases: at each pixel, the network says whether the placed reference is already right.

Let c be the premultiplied color of a canvas, a its opacity and g its gate. The x_0 with the canvas copied is

    x_0 = g c + (1 - g a) x_0'

where x_0' is that of the layer behind, and for the last canvas the network's own prediction. ε and v divide by σ, here
with a floor, so that at low noise an inexact canvas does not outweigh x_t. This goes beyond the paper.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from reimagen_generator.config.cascade import Prediction
from reimagen_generator.diffusion.schedule import alpha_sigma, per_image
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.placement import CANVASES, canvases

_Images = Float[Array, "batch height width 3"]
_LEAST_SIGMA = 0.08


def copied(
    kind: Prediction,
    output: Float[Array, "batch height width channels"],
    neighbors: Neighbors | None,
    x_t: _Images,
    log_snr: Float[Array, " batch"],
) -> Float[Array, "batch height width channels_without_gates"]:
    """Return a network's output with the canvases copied by its gates, and without the gates.

    Args:
        kind: What the network predicts.
        output: Three channels of the prediction, then others such as the variance, then one gate for each canvas.
        neighbors: The network's neighbors; the output has gates with or without neighbors.
        x_t: The noised images.
        log_snr: Log-SNR of each image.
    """
    gates, output = output[..., -CANVASES:], output[..., :-CANVASES]
    if neighbors is None or neighbors.placed is None:
        return output
    composed = canvases(neighbors.placed, neighbors.mask)
    alpha, sigma = map(per_image, alpha_sigma(log_snr))
    floor = jnp.maximum(sigma, _LEAST_SIGMA)
    prediction = output[..., :3]
    for canvas in reversed(range(CANVASES)):
        gate = gates[..., canvas : canvas + 1]
        color, opacity = composed[..., 4 * canvas : 4 * canvas + 3], composed[..., 4 * canvas + 3 : 4 * canvas + 4]
        match kind:
            case Prediction.EPSILON:
                copy = (opacity * x_t - alpha * color) / floor
            case Prediction.V:
                copy = (opacity * alpha * x_t - color) / floor
            case Prediction.X0:
                copy = color
        prediction = gate * copy + (1.0 - gate * opacity) * prediction
    return jnp.concatenate([prediction, output[..., 3:]], axis=-1)
