"""Copy distance: whether an image's subject copies a reference, by a measure of pixels without any network.

The reference's drawing is compared with the image at every position, in many sizes, as it is and mirrored. The distance
is the least root mean square difference over the drawing's pixels, on a scale of 0 to 255. The drawing is the part of
the reference that differs from the median color of its border, less its edge pixels, which mix with the background. In
an image on a plain background this is the object; in a photograph it is nearly everything.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Complex, Float, UInt8
from PIL import Image

SIDE = 64
SCALES = tuple(np.geomspace(0.3, 1.2, 36).tolist())
"""Sizes of the reference, as a fraction of the image's side."""
NEAR_COPY = 16.0
"""Distance below which an image nearly equals a reference. Most true images of the demonstration's art are below it for
the drawing that they show, and hardly any for another drawing of the same object; `make results` prints both rates."""
_DRAWN = 20
"""Least difference from the background, in any channel and of 255, of a pixel of the drawing."""
_LEAST = 60
"""Least number of pixels of a drawing that is compared."""

_Image = UInt8[np.ndarray, "height width 3"]


def copy_distance(image: _Image, references: Sequence[Path]) -> float:
    """Return the distance to the nearest reference; NaN if there is none."""
    canvas = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    spectra = _spectrum(canvas.transpose(2, 0, 1)), _spectrum(np.square(canvas).sum(axis=2))
    distances = [_distance(*spectra, *template) for path in references for template in _templates(path)]
    return min(distances, default=float("nan"))


@lru_cache(maxsize=64)
def _templates(path: Path) -> tuple[tuple[Float[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]], ...]:
    """Return the reference's drawing in every size that fits, with its mask."""
    with Image.open(path) as opened:
        reference = opened.convert("RGB")
    candidates = []
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
            candidates += [(pixels[window], mask[window]), (pixels[window][:, ::-1], mask[window][:, ::-1])]
    return tuple(candidates)


def _without_edge(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Remove the mask's pixels that have a neighboring pixel outside the mask."""
    padded = np.pad(mask, 1)
    inner: Bool[np.ndarray, "h w"] = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inner


def _distance(
    colors: Complex[np.ndarray, "3 side half"],
    squares: Complex[np.ndarray, "side half"],
    drawing: Float[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
) -> float:
    """Return the least distance over all positions.

    Σ M (P - R)² = Σ M P² - 2 Σ M R P + Σ M R², where each sum over positions is a correlation.
    """
    inside = mask.astype(np.float64)
    masked = (drawing * inside[..., None]).transpose(2, 0, 1)
    spectrum = squares * _spectrum(inside).conj() - 2 * (colors * _spectrum(masked).conj()).sum(axis=0)
    squared = np.fft.irfft2(spectrum, s=(SIDE, SIDE))[: SIDE - mask.shape[0] + 1, : SIDE - mask.shape[1] + 1]
    least = float(squared.min() + np.square(masked).sum())
    return float(np.sqrt(max(0.0, least) / (3 * inside.sum())))


def _spectrum(values: Float[np.ndarray, "*any h w"]) -> Complex[np.ndarray, "*any side half"]:
    spectrum: Complex[np.ndarray, "*any side half"] = np.fft.rfft2(values, s=(SIDE, SIDE))
    return spectrum
