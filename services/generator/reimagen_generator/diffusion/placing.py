"""From prompt and neighbors to placed references: the placement network's part in drawing, once an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from reimagen_generator.diffusion.references import ReferencePair, resized
from reimagen_generator.diffusion.resize import downsample
from reimagen_generator.networks.network import Text
from reimagen_generator.networks.placement import CANVASES, PlacedReferences, Placements, canvas_of, place
from reimagen_generator.networks.placement_network import PlacementNetwork, leader_of, sample_placements

REFERENCE_SIDE: Final = 256
"""Side in pixels of the references that things are cut out of."""
_PLACEMENT_KEY: Final = 1_000
"""What the key of an image's placements is folded with; stages have small numbers."""
_FILTER_RADIUS: Final = 2
_FILTER_EPSILON: Final = 1e-3


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Placing:
    """The references of a batch of images, their things' mattes, and where these go."""

    references: Float[Array, "batch neighbors side side 3"]
    mattes: Float[Array, "batch neighbors side side"]
    placements: Placements
    canvas: Int[Array, "batch neighbors"]


class Placer:
    """Places the things of references by a placement network."""

    def __init__(self, network: PlacementNetwork) -> None:
        """Take the network."""
        self.config = network.config
        self._graph, self._parameters = nnx.split(network)

    @property
    def network(self) -> PlacementNetwork:
        """The network."""
        return nnx.merge(self._graph, self._parameters)

    def placing(
        self,
        rows: Sequence[Sequence[ReferencePair]],
        slots: int,
        text: Text,
        neighbor_text: Text,
        seeds: Sequence[int],
    ) -> Placing:
        """Return where the things of each image's references go; the seed decides what the prompt leaves open.

        Args:
            rows: The references of each image, at most `slots`.
            slots: Places for references.
            text: The prompts.
            neighbor_text: Of images × slots rows.
            seeds: Of the images.
        """
        # The images of one request have the same references.
        squares = {id(pairs): resized(pairs, REFERENCE_SIDE, slots) for pairs in rows}
        references = jnp.concatenate([squares[id(pairs)] for pairs in rows])
        leaders, canvas = groups([[pair.caption for pair in pairs] for pairs in rows], slots)
        keys = jnp.stack([jax.random.fold_in(jax.random.key(seed), _PLACEMENT_KEY) for seed in seeds])
        return self.placing_at(
            references,
            text,
            neighbor_text,
            leaders=leaders,
            canvas=canvas,
            keys=keys,
            image=jnp.zeros((len(rows), self.config.image_side, self.config.image_side, 3)),
            time=jnp.ones(len(rows)),
        )

    def placing_at(
        self,
        references: Float[Array, "batch neighbors side side 3"],
        text: Text,
        neighbor_text: Text,
        *,
        leaders: Int[Array, "batch neighbors"],
        canvas: Int[Array, "batch neighbors"],
        keys: Key[Array, " batch"],
        image: Float[Array, "batch h w 3"],
        time: Float[Array, " batch"],
    ) -> Placing:
        """Return where the things of references go, as the network tells at a time of the diffusion.

        Args:
            references: In [-1, 1], of the configuration's side or a multiple.
            text: The prompts.
            neighbor_text: Of batch × neighbors rows.
            leaders: For each neighbor, the first one of the same caption.
            canvas: Of each neighbor.
            keys: One for each image.
            image: x_t, downsampled to the configuration's `image_side`; anything where `time` is 1.
            time: In [0, 1].
        """
        placing: Placing = self._placing(
            self._parameters, references, text, neighbor_text, leaders, canvas, keys, image, time
        )
        return placing

    @partial(jax.jit, static_argnums=0)
    def _placing(
        self,
        parameters: nnx.State[Any, Any],
        references: Float[Array, "batch neighbors side side 3"],
        text: Text,
        neighbor_text: Text,
        leaders: Int[Array, "batch neighbors"],
        canvas: Int[Array, "batch neighbors"],
        keys: Key[Array, " batch"],
        image: Float[Array, "batch h w 3"],
        time: Float[Array, " batch"],
    ) -> Placing:
        network: PlacementNetwork = nnx.merge(self._graph, parameters)
        b, n = references.shape[:2]
        flat = references.reshape(b * n, *references.shape[2:])
        small = downsample(flat, references.shape[2] // self.config.side)
        distribution = network(small.reshape(b, n, *small.shape[1:]), text, neighbor_text, image, time)
        coarse = jax.nn.sigmoid(distribution.matte).reshape(b * n, *small.shape[1:3])
        mattes = refined(coarse, small, flat).reshape(references.shape[:4])
        return Placing(references, mattes, sample_placements(distribution, leaders, keys), canvas)


def groups(
    captions: Sequence[Sequence[str]], slots: int
) -> tuple[Int[Array, "batch neighbors"], Int[Array, "batch neighbors"]]:
    """Return the leaders and canvases of neighbors, see `leader_of` and `canvas_of`, in `slots` slots for each image.

    Args:
        captions: Of each image's neighbors, at most `slots`.
        slots: For neighbors; those that are left over are on no canvas.
    """
    leaders = [leader_of(row) + list(range(len(row), slots)) for row in captions]
    canvas = [canvas_of(row) + [CANVASES] * (slots - len(row)) for row in captions]
    return jnp.asarray(leaders, jnp.int32), jnp.asarray(canvas, jnp.int32)


@partial(jax.jit, static_argnums=1)
def layers(placing: Placing, size: int) -> PlacedReferences:
    """Return the references as layers of a stage's size."""
    return place(placing.references, placing.mattes, placing.placements, placing.canvas, size)


def refined(
    matte: Float[Array, "rows h w"], small: Float[Array, "rows h w 3"], large: Float[Array, "rows height width 3"]
) -> Float[Array, "rows height width"]:
    """Return a matte at the size of the larger image, its edges where the image's are.

    That is the fast guided filter (arXiv 1505.00996): around each pixel the matte is fitted as an affine function of
    the small image's colors, and these functions, enlarged, are applied to the colors of the large one.
    """
    guide = jnp.moveaxis(small, -1, 1)
    mean = _box(guide)
    covariance = _box(guide[:, :, None] * guide[:, None]) - mean[:, :, None] * mean[:, None]
    shared = _box(guide * matte[:, None]) - mean * _box(matte)[:, None]
    covariance = jnp.moveaxis(covariance, (1, 2), (-2, -1)) + _FILTER_EPSILON * jnp.eye(3)
    slope = jnp.linalg.solve(covariance, jnp.moveaxis(shared, 1, -1)[..., None])[..., 0]
    offset = _box(matte) - (slope * jnp.moveaxis(mean, 1, -1)).sum(axis=-1)
    fitted = jnp.concatenate([jnp.moveaxis(_box(jnp.moveaxis(slope, -1, 1)), 1, -1), _box(offset)[..., None]], axis=-1)
    rows, height, width, _ = large.shape
    fitted = jax.image.resize(fitted, (rows, height, width, 4), "linear")
    return jnp.clip((fitted[..., :3] * large).sum(axis=-1) + fitted[..., 3], 0.0, 1.0)


def _box(maps: Float[Array, "*batch h w"]) -> Float[Array, "*batch h w"]:
    """Return the mean over squares around each pixel, of what lies within the image."""
    h, w = maps.shape[-2:]

    def window(side: int) -> Float[np.ndarray, "side side"]:
        near = np.abs(np.arange(side)[:, None] - np.arange(side)) <= _FILTER_RADIUS
        shares: Float[np.ndarray, "side side"] = (near / near.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares

    mean: Array = jnp.einsum("Hh,...hw,Ww->...HW", window(h), maps, window(w))
    return mean
