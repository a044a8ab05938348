"""The folded residual network: its initialization, its inputs, and its equality on crops and whole images."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pydantic import ValidationError

from reimagen_generator.config.networks import FoldedResNetConfig
from reimagen_generator.networks.neighbors import Neighbors
from reimagen_generator.networks.network import LowResolution, Text
from reimagen_generator.networks.placement import PlacedReferences
from reimagen_generator.networks.registry import build_network

CONFIG = FoldedResNetConfig(width=8, blocks=2, factor=4)
PLACED = CONFIG.model_copy(update={"placed": True})
TEXT = Text(jnp.zeros((2, 3, CONFIG.text_channels)), jnp.ones((2, 3), bool))


def normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def randomized(config: FoldedResNetConfig) -> Any:
    """Return a network with random weights: layers that start as zero would hide their inputs."""
    network = build_network(config, nnx.Rngs(0))
    rng = np.random.default_rng(0)
    state = nnx.state(network, nnx.Param)
    nnx.update(network, jax.tree.map(lambda a: a + 0.1 * rng.standard_normal(a.shape, np.float32), state))
    return network


def placed_at(layers: jax.Array, mask: list[bool] | None = None) -> Neighbors:
    """Return neighbors with the given layers on their canvases, the second neighbor on the second one."""
    rows, count = layers.shape[:2]
    canvas = jnp.broadcast_to(jnp.arange(count), (rows, count))
    exists = jnp.broadcast_to(jnp.asarray(mask or [True] * count), (rows, count))
    return Neighbors({}, exists, placed=PlacedReferences(layers, canvas, jnp.zeros((rows, count))))


def predict(
    network: Any,
    x: jax.Array,
    low: jax.Array,
    time: float = 0.7,
    augmentation: float = 0.1,
    neighbors: Neighbors | None = None,
) -> np.ndarray:
    rows = len(x)
    low_resolution = LowResolution(low, jnp.full(rows, augmentation))
    return np.asarray(network(x, jnp.full(rows, time), TEXT, neighbors, low_resolution))


def test_it_starts_as_the_upsampled_low_resolution_image() -> None:
    low = normal(1, 2, 16, 24, 3)
    np.testing.assert_array_equal(predict(build_network(CONFIG, nnx.Rngs(0)), normal(0, 2, 16, 24, 3), low), low)


def test_every_input_reaches_the_prediction() -> None:
    network, x, low = randomized(CONFIG), normal(0, 2, 16, 16, 3), normal(1, 2, 16, 16, 3)
    drawn = predict(network, x, low)
    assert drawn.shape == x.shape
    assert (drawn != predict(network, x + 0.1, low)).any()
    assert (drawn - low != predict(network, x, low + 0.1) - low - 0.1).any()
    assert (drawn != predict(network, x, low, time=0.6)).any()
    assert (drawn != predict(network, x, low, augmentation=0.0)).any()


def test_a_placed_network_adds_a_gate_for_each_canvas_which_starts_nearly_closed() -> None:
    x, low, layers = normal(0, 2, 16, 16, 3), normal(1, 2, 16, 16, 3), normal(2, 2, 2, 16, 16, 4)
    drawn = predict(build_network(PLACED, nnx.Rngs(0)), x, low, neighbors=placed_at(layers))
    np.testing.assert_array_equal(drawn[..., :3], low)
    np.testing.assert_allclose(drawn[..., 3:], np.broadcast_to(1 / (1 + np.e), (2, 16, 16, 2)), rtol=1e-5)


def test_each_canvas_reaches_the_prediction_and_a_masked_one_does_not() -> None:
    network, x, low = randomized(PLACED), normal(0, 2, 16, 16, 3), normal(1, 2, 16, 16, 3)
    layers = normal(2, 2, 2, 16, 16, 4)
    none = predict(network, x, low)
    both = predict(network, x, low, neighbors=placed_at(layers))
    one = predict(network, x, low, neighbors=placed_at(layers, [True, False]))
    assert (both != none).any()
    assert (both != one).any()
    assert (one != none).any()
    np.testing.assert_array_equal(predict(network, x, low, neighbors=placed_at(layers, [False, False])), none)


@pytest.mark.parametrize("config", [CONFIG, PLACED])
def test_each_parameter_learns_after_the_last_layers_leave_zero(config: FoldedResNetConfig) -> None:
    network, x, low = randomized(config), normal(0, 2, 16, 16, 3), normal(1, 2, 16, 16, 3)
    neighbors = placed_at(normal(2, 2, 2, 16, 16, 4))
    graph, parameters = nnx.split(network)

    def loss(parameters: Any) -> jax.Array:
        low_resolution = LowResolution(low, jnp.full(2, 0.1))
        output: jax.Array = nnx.merge(graph, parameters)(x, jnp.full(2, 0.7), TEXT, neighbors, low_resolution)
        return jnp.mean(output**2)

    for path, gradient in nnx.to_flat_state(jax.grad(loss)(parameters)):
        assert np.abs(np.asarray(gradient[...])).max() > 0, path


def test_a_crop_at_whole_patches_gets_the_same_prediction_inside() -> None:
    """Farther from the border than the convolutions reach, a crop's prediction equals the whole image's."""
    network, x, low = randomized(CONFIG), normal(0, 2, 80, 80, 3), normal(1, 2, 80, 80, 3)
    reach = 4 * (2 + 2 * CONFIG.blocks)
    crop = (slice(None), slice(8, 72), slice(12, 76))
    whole, cropped = predict(network, x, low)[crop], predict(network, x[crop], low[crop])
    inner = (slice(None), slice(reach, -reach), slice(reach, -reach))
    np.testing.assert_allclose(cropped[inner], whole[inner], atol=1e-5)
    assert cropped[inner].size
    assert np.abs(cropped - whole).max() > 1e-3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"low_resolution": False}, "low_resolution: must be true"),
        ({"learned_variance": True}, "learned_variance: must be false"),
        ({"factor": 1}, "factor"),
    ],
)
def test_impossible_configurations_of_the_network_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FoldedResNetConfig.model_validate({"width": 8, "blocks": 1} | changed)
