"""Copying from canvases: an open gate gives the canvas, a closed one the network's prediction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reimagen_generator.config.cascade import Prediction
from reimagen_generator.diffusion import prediction
from reimagen_generator.diffusion.copying import copied
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.placement import CANVASES, PlacedReferences

SHAPE = (2, 4, 4, 3)
LOG_SNR = jnp.asarray([2.0, -3.0])


def some(number: int, *shape: int) -> jax.Array:
    return jax.random.uniform(jax.random.key(number), shape, minval=-1.0)


def neighbors(opacity: jax.Array, color: jax.Array) -> Neighbors:
    """Return one neighbor on the first canvas."""
    layers = jnp.concatenate([opacity * color, opacity], axis=-1)[:, None]
    placed = PlacedReferences(layers, jnp.zeros((2, 1), int), jnp.zeros((2, 1)))
    return Neighbors({}, jnp.ones((2, 1), bool), placed=placed)


@pytest.mark.parametrize("kind", Prediction)
def test_the_gate_mixes_the_canvas_and_the_networks_own_image(kind: Prediction) -> None:
    x_t, own, color = some(0, *SHAPE), some(1, *SHAPE), some(2, *SHAPE)
    opacity, gate = jnp.abs(some(3, *SHAPE[:3], 1)), jnp.abs(some(4, *SHAPE[:3], 1))
    epsilon = prediction.x0_to_epsilon(own, x_t, LOG_SNR)
    output = prediction.target(kind, own, epsilon, LOG_SNR)
    gates = jnp.concatenate([gate, jnp.ones((*SHAPE[:3], CANVASES - 1))], axis=-1)
    mixed = copied(kind, jnp.concatenate([output, gates], axis=-1), neighbors(opacity, color), x_t, LOG_SNR)
    x_0 = prediction.epsilon_to_x0(prediction.to_epsilon(kind, mixed, x_t, LOG_SNR), x_t, LOG_SNR)
    np.testing.assert_allclose(x_0, gate * opacity * color + (1 - gate * opacity) * own, atol=2e-5)


def test_without_neighbors_the_gates_are_dropped() -> None:
    output = some(0, *SHAPE[:3], 3 + CANVASES)
    np.testing.assert_array_equal(copied(Prediction.V, output, None, some(1, *SHAPE), LOG_SNR), output[..., :3])
