"""Orders as bytes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reimagen_generator.diffusion.guidance import GuidanceRows
from reimagen_generator.diffusion.inputs import Row
from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.diffusion.sampling_state import RowSteps
from reimagen_generator.engine.orders import BeginStage, EndStage, Order, Preview, SkipStages, TakeStep, decode, encode

PAIR = ReferencePair(np.arange(24, dtype=np.uint8).reshape(2, 4, 3), "un château 🏰", 0.5)
ROW = Row("a castle", [PAIR, PAIR], 2**53 - 1, "blurry")
ONE = jnp.ones(1)
GUIDANCE = GuidanceRows(jnp.asarray([2]), 3 * ONE, 2 * ONE, 0.5 * ONE)
STEPS = RowSteps(jnp.asarray([4]), jnp.asarray([[0.5, -1.0, 2.0]]), jnp.asarray([True]))


@pytest.mark.parametrize(
    "order",
    [
        BeginStage(3, 0, 4, ROW, GUIDANCE, jnp.asarray([1])),
        BeginStage(3, 1, 4, None, GUIDANCE, jnp.asarray([1])),
        TakeStep(1, [3, 5, 5], [STEPS] * 3, 2),
        Preview(7),
        EndStage(7, last=True),
        SkipStages(1, 2, 1, Row("a castle", [], 0)),
    ],
    ids=lambda order: type(order).__name__,
)
def test_an_order_arrives_as_it_was_sent(order: Order) -> None:
    found, forgotten = decode(encode(order, [2, 9]))
    assert type(found) is type(order)
    assert forgotten == [2, 9]
    sent, arrived = (jax.tree.leaves(vars(each), is_leaf=lambda leaf: isinstance(leaf, Row)) for each in (order, found))
    for wanted, got in zip(sent, arrived, strict=True):
        if isinstance(wanted, Row):
            assert (got.prompt, got.seed, got.negative_prompt) == (wanted.prompt, wanted.seed, wanted.negative_prompt)
            assert [pair.digest for pair in got.neighbors] == [pair.digest for pair in wanted.neighbors]
            assert [pair.weight for pair in got.neighbors] == [pair.weight for pair in wanted.neighbors]
        else:
            np.testing.assert_array_equal(got, wanted)
            assert np.asarray(got).dtype == np.asarray(wanted).dtype
