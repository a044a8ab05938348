"""Placement of references: the object of each reference is cut out and moved to its place in the image.

    reference, matte ──┐
    box, placement ────┴─ inverse affine map, sampled ──▶ layer ──┐
                                        (other references) ───────┴─▶ canvases, premultiplied RGBA

This goes beyond the paper, whose network must find by attention where to copy to. A placement gives the center of the
object's box, the length of its longest edge, whether the object is mirrored, and by which angle it is turned.
Coordinates are shares of an image's side, x to the right and y down; angles are counter-clockwise as seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

CANVASES = 2
"""Number of canvases that a network sees: one for the first reference of each object, one for the second."""
CANVAS_CHANNELS = 4 * CANVASES
COPIES = 3
"""The most places to which one reference can be copied, for prompts such as "three foxes"."""
_LEVELS = 4
_SUPERSAMPLING = 2

_Points = Float[Array, "*shape 2"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Placements:
    """Where the objects of an image's references go, each to up to `copies` places."""

    box: Float[Array, "batch neighbors 3"]
    """The object's box in its reference: the center's x and y, and the longest edge."""
    center: Float[Array, "batch neighbors copies 2"]
    size: Float[Array, "batch neighbors copies"]
    """The length of the object's longest edge, before turning."""
    mirrored: Bool[Array, "batch neighbors copies"]
    """Whether left and right of the reference are exchanged, before turning."""
    angle: Float[Array, "batch neighbors copies"]
    present: Bool[Array, "batch neighbors copies"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PlacedReferences:
    """An image's references as layers from which a network can copy."""

    layers: Float[Array, "batch neighbors height width 4"]
    """Premultiplied RGBA, colors in [-1, 1]; zero outside of the object."""
    canvas: Int[Array, "batch neighbors"]
    """The canvas of each layer; `CANVASES` for no canvas."""
    depth: Float[Array, "batch neighbors"]
    """The order of the layers: layers of smaller depth are behind those of larger depth."""


def canvas_of(captions: Sequence[str]) -> list[int]:
    """Return the canvas of each neighbor; neighbors with one caption show one object and get different canvases."""
    return [min(captions[:rank].count(caption), CANVASES) for rank, caption in enumerate(captions)]


def place(
    images: Float[Array, "batch neighbors side side 3"],
    mattes: Float[Array, "batch neighbors side side"],
    placements: Placements,
    canvas: Int[Array, "batch neighbors"],
    size: int,
) -> PlacedReferences:
    """Return the references' objects at their places, `size` pixels per side.

    Args:
        images: The references, in [-1, 1].
        mattes: The opacity of the object in each pixel, in [0, 1].
        placements: Where the objects go.
        canvas: The canvas of each reference.
        size: Side of the layers, in pixels.
    """
    premultiplied = jnp.concatenate([images * mattes[..., None], mattes[..., None]], axis=-1)
    layers = jax.vmap(jax.vmap(lambda image, one: _layer(image, one, size)))(premultiplied, placements)
    bottoms = placements.center[..., 1] + 0.5 * placements.size
    depth = jnp.where(placements.present, bottoms, -1.0).max(axis=-1)
    return PlacedReferences(layers, canvas, depth)


def canvases(
    placed: PlacedReferences, mask: Bool[Array, "batch neighbors"]
) -> Float[Array, "batch height width canvas_channels"]:
    """Return the canvases, concatenated along the channels, with the layers in the mask.

    A layer that reaches further down in the image is nearer, and covers the layers behind it.
    """
    order = jnp.argsort(placed.depth, axis=1)
    layers = jnp.take_along_axis(placed.layers, order[:, :, None, None, None], axis=1)
    canvas = jnp.take_along_axis(jnp.where(mask, placed.canvas, CANVASES), order, axis=1)
    composed = []
    for number in range(CANVASES):
        visible = jnp.where((canvas == number)[:, :, None, None, None], layers, 0.0)
        composite = visible[:, 0]
        for rank in range(1, visible.shape[1]):
            composite = over(visible[:, rank], composite)
        composed.append(composite)
    return jnp.concatenate(composed, axis=-1)


def copy_gates(output: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the copy gates of a network's output, in [0, 1]; they start nearly closed, at an output of 0."""
    return jax.nn.sigmoid(4.0 * output - 1.0)


def over(front: Float[Array, "*shape 4"], back: Float[Array, "*shape 4"]) -> Float[Array, "*shape 4"]:
    """Return one layer over another, both premultiplied (Porter and Duff, 1984)."""
    return front + (1.0 - front[..., 3:]) * back


def source_points(points: _Points, box: Float[Array, "3"], one: Placements) -> _Points:
    """Return the points of the reference that are moved to the given points of the image.

    Args:
        points: Points of the image.
        box: Box of the object in the reference.
        one: A single placement: all of its fields have no leading axes.
    """
    offset = points - one.center
    cosine, sine = jnp.cos(one.angle), jnp.sin(one.angle)
    # The inverse of a counter-clockwise turn as seen, with y down.
    x = cosine * offset[..., 0] - sine * offset[..., 1]
    y = sine * offset[..., 0] + cosine * offset[..., 1]
    x = jnp.where(one.mirrored, -x, x)
    scale = box[2] / jnp.maximum(one.size, 1e-3)
    return box[:2] + scale * jnp.stack([x, y], axis=-1)


def _layer(image: Float[Array, "side side 4"], one: Placements, size: int) -> Float[Array, "size size 4"]:
    """Return one reference, drawn at all of its places."""
    pyramid = [image]
    while len(pyramid) < _LEVELS and pyramid[-1].shape[0] % 2 == 0:
        side = pyramid[-1].shape[0] // 2
        pyramid.append(pyramid[-1].reshape(side, 2, side, 2, 4).mean(axis=(1, 3)))
    fine = _SUPERSAMPLING * size
    steps = (jnp.arange(fine) + 0.5) / fine
    points = jnp.stack(jnp.meshgrid(steps, steps, indexing="xy"), axis=-1)

    def copy(center: Array, length: Array, mirrored: Array, angle: Array, present: Array) -> Array:
        at = source_points(points, one.box, Placements(one.box, center, length, mirrored, angle, present))
        # Pixels of the reference per sampled point; the pyramid level brings them to about one.
        scale = one.box[2] * image.shape[0] / (jnp.maximum(length, 1e-3) * fine)
        level = jnp.clip(jnp.round(jnp.log2(jnp.maximum(scale, 1.0))), 0, len(pyramid) - 1).astype(jnp.int32)
        sampled = _sample(pyramid, level, at)
        mean: Array = sampled.reshape(size, _SUPERSAMPLING, size, _SUPERSAMPLING, 4).mean(axis=(1, 3))
        return jnp.where(present, mean, 0.0)

    copies = jax.vmap(copy)(one.center, one.size, one.mirrored, one.angle, one.present)
    composite: Array = copies[0]
    for number in range(1, copies.shape[0]):
        composite = over(copies[number], composite)
    return composite


def _sample(
    pyramid: Sequence[Float[Array, "_ _ channels"]], level: Int[Array, ""], at: _Points
) -> Float[Array, "*shape channels"]:
    """Return bilinear samples of a pyramid's level at the given points; zero outside of the image."""
    sides = [image.shape[0] for image in pyramid]
    firsts = [sum(side * side for side in sides[:number]) for number in range(len(sides))]
    pixels = jnp.concatenate([image.reshape(-1, image.shape[-1]) for image in pyramid])
    side, first = jnp.asarray(sides)[level], jnp.asarray(firsts)[level]
    place = at * side - 0.5
    corner = jnp.floor(place).astype(jnp.int32)
    share = place - corner
    total: Array | float = 0.0
    for down in (0, 1):
        for right in (0, 1):
            x, y = corner[..., 0] + right, corner[..., 1] + down
            weight = jnp.abs(1 - right - share[..., 0]) * jnp.abs(1 - down - share[..., 1])
            inside = (x >= 0) & (x < side) & (y >= 0) & (y < side)
            index = first + jnp.clip(y, 0, side - 1) * side + jnp.clip(x, 0, side - 1)
            total = total + jnp.where(inside, weight, 0.0)[..., None] * pixels[index]
    sampled: Array = jnp.asarray(total)
    return sampled
