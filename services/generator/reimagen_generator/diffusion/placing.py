"""Placement of references during sampling: the placement network runs once per image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from reimagen_generator.diffusion.references import ReferencePair
from reimagen_generator.diffusion.resize import downsample, resized
from reimagen_generator.networks.network import Text
from reimagen_generator.networks.placement import CANVASES, PlacedReferences, Placements, canvas_of, place
from reimagen_generator.networks.placement_network import PlacementNetwork, leader_of, sample_placements

REFERENCE_SIDE: Final = 256
"""Side of the references from which objects are cut out, in pixels."""
_PLACEMENT_KEY: Final = 1_000
"""Number folded into the key of an image's placements; stages use small numbers."""
_FILTER_RADIUS: Final = 2
_FILTER_EPSILON: Final = 1e-3


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Placing:
    """The references of a batch of images, with the mattes of their objects and their placements."""

    references: Float[Array, "batch neighbors side side 3"]
    mattes: Float[Array, "batch neighbors side side"]
    placements: Placements
    canvas: Int[Array, "batch neighbors"]


class Placer:
    """Placement of the references' objects by a placement network."""

    def __init__(self, network: PlacementNetwork) -> None:
        """Create a placer with a network."""
        self.config = network.config
        self._graph, self._parameters = nnx.split(network)

    @property
    def network(self) -> PlacementNetwork:
        """The placement network."""
        return nnx.merge(self._graph, self._parameters)

    def placing(
        self,
        rows: Sequence[Sequence[ReferencePair]],
        slots: int,
        text: Text,
        neighbor_text: Text,
        seeds: Sequence[int],
    ) -> Placing:
        """Return the placements of each image's references; the seed decides whatever the prompt leaves open.

        Args:
            rows: The references of each image, at most `slots`.
            slots: Number of references for which the arrays have space.
            text: The prompts.
            neighbor_text: The captions, images × slots rows.
            seeds: The seeds of the images.
        """
        # The images of one request share the same references.
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
        """Return the placements of references, as the network predicts them at a time of the diffusion.

        Args:
            references: Images in [-1, 1], with the configuration's side or a multiple of it.
            text: The prompts.
            neighbor_text: The captions, batch × neighbors rows.
            leaders: For each neighbor, the rank of the first one with the same caption.
            canvas: The canvas of each neighbor.
            keys: One key for each image.
            image: x_t, downsampled to the configuration's `image_side`; any values where `time` is 1.
            time: Times in [0, 1].
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
        small_references = small.reshape(b, n, *small.shape[1:])
        is_object = canvas == 0  # the first neighbor with its caption
        distribution = network(small_references, text, neighbor_text, is_object, image, time)
        coarse = jax.nn.sigmoid(distribution.matte).reshape(b * n, *small.shape[1:3])
        mattes = refined(coarse, small, flat).reshape(references.shape[:4])
        return Placing(references, mattes, sample_placements(distribution, leaders, is_object, keys), canvas)


def groups(
    captions: Sequence[Sequence[str]], slots: int
) -> tuple[Int[Array, "batch neighbors"], Int[Array, "batch neighbors"]]:
    """Return the leaders and canvases of neighbors (see `leader_of` and `canvas_of`), in `slots` slots for each image.

    Args:
        captions: The captions of each image's neighbors, at most `slots`.
        slots: Number of slots for neighbors; unused slots are on no canvas.
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
    """Return a matte at the size of the larger image, with its edges aligned to those of the image.

    This is the fast guided filter (arXiv 1505.00996). Around each pixel, the matte is fitted as an affine function of
    the small image's colors. These functions are upsampled and applied to the colors of the large image.
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
    """Return the mean over the square around each pixel, of the part inside the image."""
    h, w = maps.shape[-2:]

    def window(side: int) -> Float[np.ndarray, "side side"]:
        near = np.abs(np.arange(side)[:, None] - np.arange(side)) <= _FILTER_RADIUS
        shares: Float[np.ndarray, "side side"] = (near / near.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares

    mean: Array = jnp.einsum("Hh,...hw,Ww->...HW", window(h), maps, window(w))
    return mean
