"""Random numbers of an image: a key for each purpose and step, which no other image of a batch changes."""

from enum import IntEnum

import jax
from jaxtyping import Array, Float, Int, Key


class Purpose(IntEnum):
    """A use of randomness. Each has keys of its own, so that adding one never changes another."""

    INITIAL = 0
    AUGMENTATION = 1
    STEP_NOISE = 2
    INTERLEAVE = 3


def normal(
    keys: Key[Array, " batch"], purpose: Purpose, steps: Int[Array, " batch"], side: int
) -> Float[Array, "batch side side 3"]:
    """Return normal noise of images of a side, each image's from its own key and step."""
    return jax.vmap(lambda key, step: jax.random.normal(_key(key, purpose, step), (side, side, 3)))(keys, steps)


def uniform(keys: Key[Array, " batch"], purpose: Purpose, steps: Int[Array, " batch"]) -> Float[Array, " batch"]:
    """Return a number in [0, 1) for each image, from its own key and step."""
    return jax.vmap(lambda key, step: jax.random.uniform(_key(key, purpose, step)))(keys, steps)


def _key(key: Key[Array, ""], purpose: Purpose, step: Int[Array, ""]) -> Key[Array, ""]:
    return jax.random.fold_in(jax.random.fold_in(key, purpose), step)
