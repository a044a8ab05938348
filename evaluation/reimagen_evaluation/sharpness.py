"""Grain and sharpness of images: measures of pixels without any network, of lightness from 0 to 255."""

import numpy as np
from jaxtyping import Bool, Float, UInt8

_Lightness = Float[np.ndarray, "height width"]

_LEAST_RISE = 64.0
"""Least change of lightness over an edge."""
_LEAST_STEP = 8.0
"""Least change between adjacent pixels at an edge's steepest point; smooth gradients change less."""
_REACH = 8
"""Greatest extent of an edge in pixels, to each side of its steepest point."""


def grain(image: UInt8[np.ndarray, "height width 3"]) -> float:
    """Return the median absolute Laplacian: how much pixels differ from their four neighbors."""
    light = _lightness(image)
    around = light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:]
    return float(np.median(np.abs(4.0 * light[1:-1, 1:-1] - around)))


def edge_width(image: UInt8[np.ndarray, "height width 3"]) -> float:
    """Return the median width in pixels of edges: the distance over which lightness goes from 10 to 90 % of its change.

    Edges are searched along rows and columns. A step from one pixel to the next has a width of 0.8. The width is NaN if
    there is no edge.
    """
    light = _lightness(image)
    widths = np.concatenate([_widths(light), _widths(light.T)])
    return float(np.median(widths)) if len(widths) else float("nan")


def _lightness(image: UInt8[np.ndarray, "height width 3"]) -> _Lightness:
    light: _Lightness = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return light


def _widths(light: _Lightness) -> Float[np.ndarray, " edges"]:
    """Return the widths of all edges along the rows."""
    step = np.pad(np.diff(light, axis=1), ((0, 0), (_REACH + 1, _REACH + 1)))
    size = np.abs(step)
    steepest: Bool[np.ndarray, "height steps"] = np.zeros(size.shape, bool)
    inner = size[:, 1:-1]
    steepest[:, 1:-1] = (inner >= _LEAST_STEP) & (inner > size[:, :-2]) & (inner >= size[:, 2:])
    row, column = np.nonzero(steepest)
    # The steps around the steepest one that change in its direction, up to where the lightness turns.
    near = step[row[:, None], column[:, None] + np.arange(-_REACH, _REACH + 1)] * np.sign(step[row, column])[:, None]
    rising = near > 0
    rising[:, : _REACH + 1] = np.logical_and.accumulate(rising[:, _REACH::-1], axis=1)[:, ::-1]
    rising[:, _REACH:] = np.logical_and.accumulate(rising[:, _REACH:], axis=1)
    near = np.where(rising, near, 0.0)
    near = near[near.sum(axis=1) >= _LEAST_RISE]
    profile = np.pad(np.cumsum(near, axis=1), ((0, 0), (1, 0)))
    widths: Float[np.ndarray, " edges"] = _crossing(profile, 0.9) - _crossing(profile, 0.1)
    return widths


def _crossing(profile: Float[np.ndarray, "edges steps"], share: float) -> Float[np.ndarray, " edges"]:
    """Return where each profile, which rises from 0, reaches a share of its last value, by linear interpolation."""
    level = share * profile[:, -1]
    after = (profile < level[:, None]).sum(axis=1)
    edge = np.arange(len(profile))
    below, above = profile[edge, after - 1], profile[edge, after]
    crossing: Float[np.ndarray, " edges"] = after - 1 + (level - below) / (above - below)
    return crossing
