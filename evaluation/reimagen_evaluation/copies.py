"""Is an image's subject a copy of a reference's? A measure of pixels alone, of which no network is part.

The reference's drawing is laid over the image, at every place, in many sizes, as it is and mirrored. The distance is
the least root mean square difference, over the drawing's own pixels, of 255. The drawing is what differs from the
median color of the reference's border, less its edge, which mixes with the ground: of images on a plain ground the
thing, of photographs nearly all.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Complex, Float, UInt8
from PIL import Image

SIDE = 64
SCALES = tuple(np.geomspace(0.3, 1.2, 36).tolist())
"""Of the reference's square to the image's side."""
NEAR_COPY = 16.0
"""Below this distance an image nearly equals a reference. True images of the demonstration's art mostly are, of the
drawing that they show, and hardly ever of another drawing of the same thing; `make results` tells both rates."""
_DRAWN = 20
"""By how much, of 255, in any channel, the drawing differs from its ground."""
_LEAST = 60
"""Pixels that a drawing must have to be compared."""

_Image = UInt8[np.ndarray, "height width 3"]


def copy_distance(image: _Image, references: Sequence[Path]) -> float:
    """The distance to the nearest reference; NaN where there is none."""
    canvas = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    spectra = _spectrum(canvas.transpose(2, 0, 1)), _spectrum(np.square(canvas).sum(axis=2))
    distances = [_distance(*spectra, *template) for path in references for template in _templates(path)]
    return min(distances, default=float("nan"))


@lru_cache(maxsize=64)
def _templates(path: Path) -> tuple[tuple[Float[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]], ...]:
    """The reference's drawing in every size that fits, with its mask."""
    with Image.open(path) as opened:
        reference = opened.convert("RGB")
    made = []
    for scale in SCALES:
        size = (round(scale * SIDE * reference.width / max(reference.size)),
                round(scale * SIDE * reference.height / max(reference.size)))  # fmt: skip
        pixels = np.asarray(reference.resize(size, Image.Resampling.BOX), np.float64)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        mask = _without_edge((np.abs(pixels - np.median(border, axis=0)) > _DRAWN).any(axis=2))
        if mask.sum() < _LEAST:
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        if max(mask[window].shape) <= SIDE:
            made += [(pixels[window], mask[window]), (pixels[window][:, ::-1], mask[window][:, ::-1])]
    return tuple(made)


def _without_edge(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Less the pixels that have one beside them that is not in it."""
    padded = np.pad(mask, 1)
    inner: Bool[np.ndarray, "h w"] = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inner


def _distance(
    colors: Complex[np.ndarray, "3 side half"],
    squares: Complex[np.ndarray, "side half"],
    drawing: Float[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
) -> float:
    """The least over all places: Σ M (P - R)² = Σ M P² - 2 Σ M R P + Σ M R², each sum over places a correlation."""
    inside = mask.astype(np.float64)
    masked = (drawing * inside[..., None]).transpose(2, 0, 1)
    spectrum = squares * _spectrum(inside).conj() - 2 * (colors * _spectrum(masked).conj()).sum(axis=0)
    places = np.fft.irfft2(spectrum, s=(SIDE, SIDE))[: SIDE - mask.shape[0] + 1, : SIDE - mask.shape[1] + 1]
    least = float(places.min() + np.square(masked).sum())
    return float(np.sqrt(max(0.0, least) / (3 * inside.sum())))


def _spectrum(values: Float[np.ndarray, "*any h w"]) -> Complex[np.ndarray, "*any side half"]:
    spectrum: Complex[np.ndarray, "*any side half"] = np.fft.rfft2(values, s=(SIDE, SIDE))
    return spectrum
