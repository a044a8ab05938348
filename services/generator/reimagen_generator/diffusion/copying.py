"""Copying from canvases: what a network says of each pixel whether the placed reference is already right there.

The x_0 of a canvas of premultiplied color c and opacity a, copied by a gate g, is

    x_0 = g c + (1 - g a) x_0'

with x_0' of what is behind it, in the end the network's own prediction. ε and v divide by σ, here with a floor, so that
at little noise a canvas that is not quite right does not outweigh x_t. This goes beyond the paper.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from reimagen_generator.config.cascade import Prediction
from reimagen_generator.diffusion.schedule import alpha_sigma, per_image
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.placement import CANVASES, canvases

_Images = Float[Array, "batch height width channels"]
_LEAST_SIGMA = 0.08


def copied(
    kind: Prediction, output: _Images, neighbors: Neighbors | None, x_t: _Images, log_snr: Float[Array, " batch"]
) -> _Images:
    """Return a network's output with the canvases copied in by its gates, and without the gates.

    Args:
        kind: What the network predicts.
        output: Three channels of the prediction, others such as the variance, and at last one gate for each canvas.
        neighbors: What the network was given; the output has gates whether or not there are any.
        x_t: The noised images.
        log_snr: Of each.
    """
    gates, output = output[..., -CANVASES:], output[..., :-CANVASES]
    if neighbors is None or neighbors.placed is None:
        return output
    painted = canvases(neighbors.placed, neighbors.mask)
    alpha, sigma = map(per_image, alpha_sigma(log_snr))
    floor = jnp.maximum(sigma, _LEAST_SIGMA)
    prediction = output[..., :3]
    for canvas in reversed(range(CANVASES)):
        gate = gates[..., canvas : canvas + 1]
        color, opacity = painted[..., 4 * canvas : 4 * canvas + 3], painted[..., 4 * canvas + 3 : 4 * canvas + 4]
        match kind:
            case Prediction.EPSILON:
                shown = (opacity * x_t - alpha * color) / floor
            case Prediction.V:
                shown = (opacity * alpha * x_t - color) / floor
            case Prediction.X0:
                shown = color
        prediction = gate * shown + (1.0 - gate * opacity) * prediction
    return jnp.concatenate([prediction, output[..., 3:]], axis=-1)
