"""Placing references: an independent affine transformation gives the same layers, and canvases are painted in order."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from reimagen_generator.networks.placement import (
    CANVASES,
    COPIES,
    PlacedReferences,
    Placements,
    canvas_of,
    canvases,
    place,
    source_points,
)

SIDE, SIZE = 64, 32
BOX = (0.45, 0.55, 0.5)


def a_placement(
    center: tuple[float, float], size: float, mirrored: bool, degrees: float, box: tuple[float, float, float] = BOX
) -> Placements:
    """Return one image with one reference in one placement."""

    def copies(value: float | tuple[float, float]) -> jax.Array:
        return jnp.broadcast_to(jnp.asarray(value), (1, 1, COPIES, *np.shape(value)))

    present = jnp.arange(COPIES)[None, None] == 0
    return Placements(
        jnp.asarray(box)[None, None],
        copies(center),
        copies(size),
        copies(mirrored),
        copies(math.radians(degrees)),
        present,
    )


def a_thing() -> tuple[Image.Image, Image.Image]:
    """Return an asymmetric object and its matte, with the box BOX."""
    picture, matte = Image.new("RGB", (SIDE, SIDE), "white"), Image.new("L", (SIDE, SIDE), 0)
    left, top, edge = (BOX[0] - BOX[2] / 2) * SIDE, (BOX[1] - BOX[2] / 2) * SIDE, BOX[2] * SIDE
    shape = [(left, top), (left + edge, top + edge / 2), (left + edge / 3, top + edge)]
    ImageDraw.Draw(picture).polygon(shape, fill=(200, 30, 90))
    ImageDraw.Draw(matte).polygon(shape, fill=255)
    return picture, matte


@pytest.mark.parametrize(
    ("center", "size", "mirrored", "degrees"),
    [
        ((0.5, 0.5), 0.5, False, 0),
        ((0.3, 0.6), 0.25, False, 30),
        ((0.6, 0.4), 0.7, True, -30),
        ((0.5, 0.5), 0.4, True, 180),
    ],
)
def test_a_layer_equals_pillows_crop_mirror_turn_and_paste(
    center: tuple[float, float], size: float, mirrored: bool, degrees: float
) -> None:
    picture, matte = a_thing()
    # Pillow at eight times the size, averaged at the end.
    large = 8 * SIZE
    left, top, edge = (BOX[0] - BOX[2] / 2) * SIDE, (BOX[1] - BOX[2] / 2) * SIDE, BOX[2] * SIDE
    corners = (left, top, left + edge, top + edge)
    length = round(size * large)
    expected = np.zeros((SIZE, SIZE, 4))
    opacity = np.asarray(matte, np.float32) / 255
    channels = [*np.moveaxis(np.asarray(picture, np.float32) * opacity[..., None], -1, 0), 255 * opacity]
    for channel, image in enumerate(channels):
        values = Image.fromarray(image)
        cut = values.resize((length, length), Image.Resampling.BILINEAR, corners)
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else cut
        cut = cut.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
        canvas = Image.new("F", (large, large))
        canvas.paste(cut, (round(center[0] * large - cut.width / 2), round(center[1] * large - cut.height / 2)))
        expected[..., channel] = np.asarray(canvas).reshape(SIZE, 8, SIZE, 8).mean(axis=(1, 3))
    expected /= 255
    placed = place(
        jnp.asarray(np.asarray(picture), jnp.float32)[None, None] / 255,
        jnp.asarray(np.asarray(matte), jnp.float32)[None, None] / 255,
        a_placement(center, size, mirrored, degrees),
        jnp.zeros((1, 1), int),
        SIZE,
    )
    error = np.abs(np.asarray(placed.layers[0, 0]) - expected)
    assert error.mean() < 0.01
    assert np.quantile(error, 0.99) < 0.15


@settings(deadline=None)  # the first example is compiled
@given(
    center=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    size=st.floats(0.05, 1),
    mirrored=st.booleans(),
    degrees=st.floats(-180, 180),
    point=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
)
def test_the_backward_map_inverts_the_forward_map(
    center: tuple[float, float], size: float, mirrored: bool, degrees: float, point: tuple[float, float]
) -> None:
    x, y = point[0] * (-1 if mirrored else 1), point[1]
    # Counterclockwise in the image: a point on the right moves up, and y points down.
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    there = (center[0] + size * (cosine * x + sine * y), center[1] + size * (cosine * y - sine * x))
    one = jax.tree.map(lambda field: field[0, 0, 0], a_placement(center, size, mirrored, degrees))
    found = source_points(jnp.asarray(there), jnp.asarray(BOX), one)
    np.testing.assert_allclose(found, (BOX[0] + BOX[2] * point[0], BOX[1] + BOX[2] * point[1]), atol=1e-4)


def test_objects_that_reach_further_down_are_in_front() -> None:
    red, green = jnp.asarray([1.0, -1, -1, 1]), jnp.asarray([-0.5, 0.5, -0.5, 0.5])
    layers = jnp.stack([red, green])[None, :, None, None]
    mask = jnp.ones((1, 2), bool)

    def painted(depth: tuple[float, float], mask: jax.Array = mask) -> jax.Array:
        placed = PlacedReferences(layers, jnp.zeros((1, 2), int), jnp.asarray([depth]))
        return canvases(placed, mask)[0, 0, 0]

    np.testing.assert_allclose(painted((0.9, 0.5))[:4], red)
    np.testing.assert_allclose(painted((0.5, 0.9))[:4], green + 0.5 * red)
    np.testing.assert_allclose(painted((0.5, 0.9), mask.at[0, 1].set(False))[:4], red)
    assert not painted((0.5, 0.9), ~mask).any()


def test_references_of_one_object_get_separate_canvases() -> None:
    assert canvas_of(["a fox", "a violin", "a fox", "a fox"]) == [0, 0, 1, CANVASES]
