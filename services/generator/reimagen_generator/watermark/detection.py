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
# What is left of each side, at least.
_SMALLEST_PART: Final = 0.3
# A side that is wrong by a pixel moves the edge of the image by half a pixel, which the pilot tolerates. The symbols
# are weaker: for them, the sides nearby are tried too.
_STEP: Final = 2
_NEARBY: Final = (-2, -1, 0, 1, 2)
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
    side: int
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
            if found:
                return Mark(_read_id(found, layout), max(candidate.score for candidate in found))
    return None


def _whole(values: Float[np.ndarray, "height width"], layout: Layout) -> list[_Candidate]:
    """Return the pilot where it is in images that are not cropped, or nothing."""
    phases = _phases(values, layout)
    score = float(_scores(phases, layout, 0)[0, 0])
    return [_Candidate(score, (0, 0), layout.side, phases)] if score >= _threshold(1) else []


def _cropped(values: Float[np.ndarray, "height width"], layout: Layout) -> list[_Candidate]:
    """Return the pilot at the best scale and those nearby, or nothing."""
    sides = range(layout.side, round(_SMALLEST_PART * layout.side), -_STEP)
    candidates = [_best(values, layout, side) for side in sides]
    best = max(candidates, key=lambda candidate: candidate.score)
    found = [_best(values, layout, best.side + change) for change in _NEARBY]
    trials = (len(sides) + len(found)) * layout.tile**2
    return found if max(candidate.score for candidate in found) >= _threshold(trials) else []


def _best(values: Float[np.ndarray, "height width"], layout: Layout, side: int) -> _Candidate:
    phases = _phases(scaled(values, side), layout)
    scores = _scores(phases, layout, 0)
    down, right = divmod(int(scores.argmax()), layout.tile)
    return _Candidate(float(scores[down, right]), (down, right), side, phases)


def _threshold(trials: int) -> float:
    # Half of the false positives are of whole images, half of cropped ones, in equal shares of the layouts.
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


def _read_id(found: list[_Candidate], layout: Layout) -> int | None:
    """Return the id by the candidate whose symbols are clearest, or None if one of them is unclear."""
    if not layout.symbols:
        return None
    surfaces = max((_symbol_scores(candidate, layout) for candidate in found), key=lambda one: one.max((1, 2)).sum())
    if surfaces.max((1, 2)).min() < _SYMBOL_THRESHOLD:
        return None
    return int.from_bytes(bytes(int(scores.argmax()) for scores in surfaces), "big")


def _symbol_scores(found: _Candidate, layout: Layout) -> Float[np.ndarray, "symbols 16 16"]:
    """Return the score of each value of each symbol, relative to the position of the pilot."""
    back = tuple(-distance for distance in found.position)
    surfaces = [_scores(found.phases, layout, number) for number in range(1, len(layout.layers))]
    return np.stack([np.roll(scores, back, (0, 1))[:: layout.step, :: layout.step] for scores in surfaces])
