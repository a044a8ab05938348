"""The counted operations and parameters of networks, against XLA and published figures."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from typer.testing import CliRunner

from reimagen_generator.cli import app
from reimagen_generator.config.presets import PRESETS
from reimagen_generator.describe import count_flops
from reimagen_generator.networks.attention import attend
from reimagen_generator.networks.network import parameter_count
from reimagen_generator.networks.registry import network_shapes

# The published figures, in millions; for DeepFloyd IF's, whose networks are known better than that, those networks' own
# (see presets_deepfloyd.py, and `test_deepfloyd.py` for the two configurations at hand).
PARAMETERS = {
    "re-imagen": (2500, 750, 400),
    "re-imagen-small": (1400, 750, 400),
    "deepfloyd-if-m": (372, 450),
    "deepfloyd-if-l": (935, 1243),
    "deepfloyd-if-xl": (4300, 1243),
}


@pytest.mark.parametrize("preset", PARAMETERS)
def test_the_presets_have_the_published_sizes(preset: str) -> None:
    config = PRESETS[preset]
    millions = [parameter_count(network_shapes(stage.network)) / 1e6 for stage in config.stages]
    np.testing.assert_allclose(millions, PARAMETERS[preset], rtol=0.03)


class Layers(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.first = nnx.Conv(3, 8, (3, 3), padding="VALID", rngs=rngs)
        self.second = nnx.List([nnx.Linear(8, 12, rngs=rngs), nnx.Linear(4, 5, rngs=rngs)])


def test_each_product_is_counted_once_in_its_part() -> None:
    """A convolution, a linear layer and attention on its output, inside jit and rematerialization."""
    graph, state = nnx.split(Layers())

    def function(state: nnx.State[Any, Any], x: jax.Array) -> jax.Array:
        layers = nnx.merge(graph, state)
        h = layers.first(x).reshape(2, 16, 1, 8)
        query, key, value = jnp.split(jax.checkpoint(layers.second[0])(h), 3, axis=-1)
        attended = jax.jit(attend)(query, key, value, jnp.zeros((1, 1, 1, 16)))
        return jnp.asarray(layers.second[1](attended))

    x = jnp.zeros((2, 6, 6, 3))
    flops = count_flops(function, state, x)
    convolution, linear, attention, last = 2 * 2 * 16 * 9 * 3 * 8, 2 * 2 * 16 * 8 * 12, 2 * 2 * 2 * 16 * 16 * 4, 1280
    assert flops == {"first": convolution, "second.0": linear + attention, "second.1": last}
    counted: Any = jax.jit(function).lower(state, x).cost_analysis()
    assert 0.8 * counted["flops"] < sum(flops.values()) < counted["flops"]  # XLA counts sums and exponentials too


def test_the_command_prints_a_tree() -> None:
    lines = CliRunner().invoke(app, ["describe", "tiny"]).stdout.splitlines()
    assert lines[0].startswith("tiny: ")
    assert [line[3:10] for line in lines if line[:1] in "├└"] == ["16 × 16", "32 × 32", "64 × 64"]
    unknown = CliRunner().invoke(app, ["describe", "enormous"])
    assert unknown.exit_code == 2
    assert "re-imagen-small" in unknown.stderr
