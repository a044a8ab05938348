"""Find the watermark in images that may have been compressed, resized and cropped.

The tiles of a candidate scale are summed, and only the phases of the sum's spectrum are compared with a pattern's
phases. If these are independent of the image, as in any unmarked one, the sum of n cosines exceeds z * sqrt(n / 2)
with a probability of at most exp(-z**2 / 2): this is Chernoff's bound, as E[exp(t cos)] = I0(t) <= exp(t**2 / 4). The
thresholds follow from it and from the number of positions and scales that are tried.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Complex, Float, UInt8

from reimagen_generator.watermark.luminance import local_deviation, local_mean, luminance, scaled
from reimagen_generator.watermark.pattern import LAYOUTS, Layout

FALSE_POSITIVES: Final = 1e-5
"""Upper bound on the share of unmarked images in which a mark is found."""
SHORTEST_SIDE: Final = 24
"""Images with a shorter side are not searched."""
# What is left of each side, at least. A wrong scale by half a step moves the edge of a whole image by half a pixel of
# the layout; the best candidate is then refined.
_SMALLEST_PART: Final = 0.3
_STEP: Final = 0.01
_REFINEMENTS: Final = (-0.006, -0.004, -0.002, 0.002, 0.004, 0.006)
# A symbol is one of 256, so that all four exceed this by chance in one of 10**8 cases.
_SYMBOL_THRESHOLD: Final = 4.0
# The image's own edges are limited to this many standard deviations.
_CLIP: Final = 2.5
_NOISE: Final = 1.0


@dataclass(frozen=True)
class Mark:
    """A mark that was found."""

    id: int | None
    """The id, or None if it cannot be read."""
    score: float
    """Score of the pilot in standard deviations of unmarked images."""


@dataclass(frozen=True)
class _Candidate:
    """The best position of the pilot at one scale."""

    score: float
    position: tuple[int, int]
    side: float
    phases: Complex[np.ndarray, "tile half"]


def detect(pixels: UInt8[np.ndarray, "height width 3"]) -> Mark | None:
    """Return the mark of an image, or None if there is none.

    Whole images are found at any size, and parts with at least 30 % of each side. Rotation, mirroring and unequal
    scaling of the sides destroy the mark.
    """
    if min(pixels.shape[:2]) < SHORTEST_SIDE:
        return None
    brightness = luminance(pixels)
    structures = {side: _whitened(scaled(brightness, side)) for side in {layout.side for layout in LAYOUTS}}
    for find in (_whole, _cropped):
        for layout in LAYOUTS:
            found = find(structures[layout.side], layout)
            if found is not None:
                return Mark(_read_id(found, layout), found.score)
    return None


def _whole(values: Float[np.ndarray, "height width"], layout: Layout) -> _Candidate | None:
    """Return the pilot where it is in images that are not cropped."""
    phases = _phases(values, layout)
    score = float(_scores(phases, layout, 0)[0, 0])
    # Half of the false positives are of whole images, half of cropped ones, and each half of each layout.
    if score < _threshold(1):
        return None
    return _Candidate(score, (0, 0), layout.side, phases)


def _cropped(values: Float[np.ndarray, "height width"], layout: Layout) -> _Candidate | None:
    """Return the pilot at the best scale and position."""
    parts = np.arange(1, _SMALLEST_PART - _STEP / 2, -_STEP)
    best = max((_best(values, layout, float(part)) for part in parts), key=_score)
    scales = [best.side / layout.side * (1 + change) for change in _REFINEMENTS]
    best = max((best, *(_best(values, layout, scale) for scale in scales)), key=_score)
    trials = (len(parts) + len(scales)) * layout.tile**2
    return best if best.score >= _threshold(trials) else None


def _best(values: Float[np.ndarray, "height width"], layout: Layout, scale: float) -> _Candidate:
    side = layout.side * scale
    phases = _phases(scaled(values, side), layout)
    scores = _scores(phases, layout, 0)
    down, right = divmod(int(scores.argmax()), layout.tile)
    return _Candidate(float(scores[down, right]), (down, right), side, phases)


def _score(candidate: _Candidate) -> float:
    return candidate.score


def _threshold(trials: int) -> float:
    share = FALSE_POSITIVES / (2 * len(LAYOUTS))
    return math.sqrt(2 * math.log(trials / share))


def _whitened(values: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """Return the fine structure at the same strength everywhere, so that no edge outweighs the mark."""
    fine = values - local_mean(values)
    return np.asarray(np.clip(fine / (local_deviation(fine) + _NOISE), -_CLIP, _CLIP))


def _phases(values: Float[np.ndarray, "height width"], layout: Layout) -> Complex[np.ndarray, "tile half"]:
    """Return the phases of the sum of all tiles."""
    down, right = (-(-length // layout.tile) for length in values.shape)
    padded = np.zeros((down * layout.tile, right * layout.tile), np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    spectrum = np.fft.rfft2(padded.reshape(down, layout.tile, right, layout.tile).sum((0, 2)))
    return np.asarray(spectrum / (np.abs(spectrum) + np.finfo(np.float32).tiny))


def _scores(phases: Complex[np.ndarray, "tile half"], layout: Layout, number: int) -> Float[np.ndarray, "tile tile"]:
    """Return the score of a pattern at each position, in standard deviations of unmarked images."""
    matches = phases * layout.conjugates[number]
    # irfft2 divides by the number of pixels and counts each frequency twice, as its conjugate is in a real image.
    cosines = np.fft.irfft2(matches, s=(layout.tile, layout.tile)) * (layout.tile**2 / 2)
    return cosines / math.sqrt(layout.layers[number].phases.size / 2)


def _read_id(found: _Candidate, layout: Layout) -> int | None:
    down, right = found.position
    if not layout.symbols:
        return None
    symbols = []
    for number in range(1, len(layout.layers)):
        scores = np.roll(_scores(found.phases, layout, number), (-down, -right), (0, 1))[:: layout.step, :: layout.step]
        if scores.max() < _SYMBOL_THRESHOLD:
            return None
        symbols.append(int(scores.argmax()))
    return int.from_bytes(bytes(symbols), "big")
